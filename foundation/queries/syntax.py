"""The tree of a query."""

from dataclasses import dataclass
from enum import StrEnum


class Operator(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    CONTAINS = "~"


@dataclass(frozen=True, slots=True)
class Value:
    """A value as it was written. `is_quoted` says that it is a text, whatever it looks like. `is_ago`: `10m ago`."""

    text: str
    position: int
    length: int
    is_quoted: bool = False
    is_ago: bool = False


@dataclass(frozen=True, slots=True)
class FieldName:
    """A field as it was written, such as `name` or `attr.board`."""

    text: str
    position: int

    @property
    def length(self) -> int:
        return len(self.text)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field compared with one value."""

    field: FieldName
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class IsIn:
    """One field equal to one of several values."""

    field: FieldName
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class IsSet:
    """One field that has a value."""

    field: FieldName


@dataclass(frozen=True, slots=True)
class Word:
    """A bare word or text, which searches the names."""

    text: str


@dataclass(frozen=True, slots=True)
class Not:
    term: "Node"


@dataclass(frozen=True, slots=True)
class And:
    terms: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Or:
    terms: tuple["Node", ...]


Node = Comparison | IsIn | IsSet | Word | Not | And | Or
