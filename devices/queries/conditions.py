"""Conditions: a query bound to the fields of devices, with two back ends.

A condition is either true or false for a device. SQL knows a third value, unknown; it is kept out by `IS NOT TRUE`,
which is where a negation begins.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from devices.models import Device
from devices.queries import versions
from devices.queries.fields import Field, FieldType
from devices.queries.values import bind, check_operator, existence, json_values, read_value
from foundation.queries.parser import parse
from foundation.queries.syntax import And, Comparison, IsIn, IsSet, Node, Not, Operator, Or, Value, Word

_SQL = {"<": "<", "<=": "<=", ">": ">", ">=": ">="}
# The types with a value that counts as missing: an empty text or array.
_EMPTIABLE = {FieldType.TEXT, FieldType.TAGS, FieldType.PRODUCTS, FieldType.IDS}
_ORDER: dict[str, Any] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


@dataclass(slots=True)
class Sql:
    """An SQL condition. `{device}` in `text` stands for the alias of the device's table."""

    text: str
    parameters: list[Any]

    def named(self, prefix: str) -> tuple[str, dict[str, Any]]:
        """Return the text with named parameters, and their values. The names begin with `prefix`."""
        names = [f"{prefix}_{number}" for number in range(len(self.parameters))]
        placeholders = iter(names)
        text = re.sub("%s", lambda _: f"%({next(placeholders)})s", self.text)
        return text, dict(zip(names, self.parameters, strict=True))


class Condition:
    """A bound query. `now` is the time that `10m ago` and the offline rule count from."""

    def __init__(self, query: str, now: datetime) -> None:
        self.now = now
        self.node = parse(query)
        self._check(self.node)

    def sql(self) -> Sql:
        return self._sql(self.node)

    def matches(self, device: Device) -> bool:
        """Return whether a device with its group matches, from its fields in memory."""
        return self._matches(self.node, device)

    def values_of(self, field: str) -> list[Value]:
        """Return the values with which the query compares a field for equality."""
        values: list[Value] = []
        for leaf in _leaves(self.node):
            if leaf.field.text != field:
                continue
            if isinstance(leaf, IsIn):
                values += leaf.values
            elif isinstance(leaf, Comparison) and leaf.operator in {Operator.EQUAL, Operator.NOT_EQUAL}:
                values.append(leaf.value)
        return values

    def _check(self, node: Node) -> None:
        """Find all errors before any back end runs."""
        for leaf in _leaves(node):
            field, _ = bind(leaf.field)
            if isinstance(leaf, IsSet):
                continue
            operator = leaf.operator if isinstance(leaf, Comparison) else Operator.EQUAL
            check_operator(field, leaf.field, operator)
            for value in leaf.values if isinstance(leaf, IsIn) else (leaf.value,):
                read_value(field, value, self.now, operator)

    def _sql(self, node: Node) -> Sql:
        match node:
            case And(terms):
                return _joined(" AND ", [self._sql(term) for term in terms])
            case Or(terms):
                return _joined(" OR ", [self._sql(term) for term in terms])
            case Not(term):
                inner = self._sql(term)
                return Sql(f"({inner.text}) IS NOT TRUE", inner.parameters)
            case Word(text):
                return Sql(
                    "({device}.name ILIKE %s OR {device}.id::text ILIKE %s)", [f"%{_like(text)}%", f"{_like(text)}%"]
                )
            case IsSet(name):
                field, path = bind(name)
                return self._is_set(field, path)
            case IsIn(name, values):
                field, path = bind(name)
                return _joined(" OR ", [self._compare(field, path, Operator.EQUAL, value) for value in values])
            case Comparison(name, operator, value):
                field, path = bind(name)
                if operator is Operator.NOT_EQUAL:
                    equal = self._compare(field, path, Operator.EQUAL, value)
                    return Sql(f"({equal.text}) IS NOT TRUE", equal.parameters)
                return self._compare(field, path, operator, value)

    def _expression(self, field: Field, path: tuple[str, ...]) -> Sql:
        return _placed(field.sql, {"now": self.now} | {f"path_{number}": part for number, part in enumerate(path)})

    def _is_set(self, field: Field, path: tuple[str, ...]) -> Sql:
        if field.set_sql:
            return Sql(field.set_sql, [])
        value = self._expression(field, path)
        match field.type:
            case FieldType.TEXT:
                return Sql(f"{value.text} <> ''", value.parameters)
            case FieldType.TAGS | FieldType.PRODUCTS:
                return Sql(f"cardinality({value.text}) > 0", value.parameters)
            case FieldType.JSON:
                return Sql(f"jsonb_typeof({value.text}) <> 'null'", value.parameters)
            case _:
                return Sql(f"({value.text}) IS NOT NULL", value.parameters)

    def _compare(self, field: Field, path: tuple[str, ...], operator: Operator, value: Value) -> Sql:
        expression, wanted = self._expression(field, path), read_value(field, value, self.now)
        text, parameters = expression.text, expression.parameters
        if operator is Operator.EQUAL and (is_any := existence(field, value)) is not None:
            is_set = self._is_set(field, path)
            return is_set if is_any else Sql(f"({is_set.text}) IS NOT TRUE", is_set.parameters)
        if operator is Operator.EQUAL and field.equal_sql:
            return _placed(field.equal_sql, {"value": wanted})
        if field.type in {FieldType.TAGS, FieldType.PRODUCTS}:
            if operator is Operator.EQUAL:
                return Sql(f"{text} @> ARRAY[%s]::varchar[]", [*parameters, wanted])
            return Sql(f"EXISTS (SELECT FROM unnest({text}) AS tag WHERE tag ILIKE %s)", [*parameters, _within(wanted)])
        if field.type is FieldType.JSON:
            return self._compare_json(field, path, operator, value)
        if operator is Operator.CONTAINS:
            return Sql(f"{text} ILIKE %s", [*parameters, _within(wanted)])
        if operator is Operator.EQUAL:
            return Sql(f"({text}) = %s", [*parameters, wanted])
        if field.type is FieldType.VERSION:
            key = re.sub(r"%\(version\)s", lambda _: f"({text})", versions.SQL_KEY)
            return Sql(f'{key} {_SQL[operator]} %s::text[] COLLATE "C"', [*parameters * 2, versions.key(wanted)])
        return Sql(f"{text} {_SQL[operator]} %s", [*parameters, wanted])

    def _compare_json(self, field: Field, path: tuple[str, ...], operator: Operator, value: Value) -> Sql:
        expression = self._expression(field, path)
        text, parameters = f"({expression.text})", expression.parameters
        if operator is Operator.EQUAL:
            candidates = [_json(candidate) for candidate in json_values(value)]
            if field.name in {"attr", "serial"}:  # the form that the index supports
                key = json.dumps(path[0] if path else field.name)
                contained = [f"{{{key}: {candidate}}}" for candidate in candidates]
                return _joined(" OR ", [Sql("{device}.attributes @> %s::jsonb", [each]) for each in contained])
            return _joined(" OR ", [Sql(f"{text} = %s::jsonb", [*parameters, each]) for each in candidates])
        if operator is Operator.CONTAINS:
            is_text = f"CASE WHEN jsonb_typeof({text}) = 'string' THEN {text} #>> '{{}}' END ILIKE %s"
            return Sql(is_text, [*parameters * 2, _within(value.text)])
        number = f"CASE WHEN jsonb_typeof({text}) = 'number' THEN {text}::numeric END"
        return Sql(f"{number} {_SQL[operator]} %s::numeric", [*parameters * 2, value.text])

    def _matches(self, node: Node, device: Device) -> bool:
        match node:
            case And(terms):
                return all(self._matches(term, device) for term in terms)
            case Or(terms):
                return any(self._matches(term, device) for term in terms)
            case Not(term):
                return not self._matches(term, device)
            case Word(text):
                return text.lower() in device.name.lower() or str(device.id).startswith(text.lower())
            case IsSet(name):
                field, path = bind(name)
                found = field.read(device, self.now, path)
                return bool(found) if field.type in _EMPTIABLE else found is not None
            case IsIn(name, values):
                field, path = bind(name)
                found = field.read(device, self.now, path)
                return any(self._holds(field, found, Operator.EQUAL, value) for value in values)
            case Comparison(name, operator, value):
                field, path = bind(name)
                found = field.read(device, self.now, path)
                if operator is Operator.NOT_EQUAL:
                    return not self._holds(field, found, Operator.EQUAL, value)
                return self._holds(field, found, operator, value)

    def _holds(self, field: Field, found: Any, operator: Operator, value: Value) -> bool:
        wanted = read_value(field, value, self.now)
        if found is None:
            return False
        if isinstance(found, list) and field.type is not FieldType.JSON:
            if operator is Operator.EQUAL and (is_any := existence(field, value)) is not None:
                return bool(found) is is_any
            if operator is Operator.EQUAL:
                return wanted in found
            return any(wanted.lower() in tag.lower() for tag in found)
        if operator is Operator.CONTAINS:
            return isinstance(found, str) and value.text.lower() in found.lower()
        if field.type is FieldType.JSON:
            if operator is Operator.EQUAL:
                return any(_is_same(found, candidate) for candidate in json_values(value))
            return _is_number(found) and bool(_ORDER[operator](Decimal(str(found)), Decimal(value.text)))
        if operator is Operator.EQUAL:
            return bool(found == wanted)
        if field.type is FieldType.VERSION:
            return bool(_ORDER[operator](versions.key(found), versions.key(wanted)))
        return bool(_ORDER[operator](found, wanted))


def _placed(text: str, values: dict[str, Any]) -> Sql:
    """Return SQL whose named parameters are replaced by their values in the order of their places."""
    parameters: list[Any] = []

    def place(match: re.Match[str]) -> str:
        parameters.append(values[match[1]])
        return "%s"

    return Sql(re.sub(r"%\((\w+)\)s", place, text), parameters)


def _leaves(node: Node) -> Iterator[Comparison | IsIn | IsSet]:
    match node:
        case And(terms) | Or(terms):
            for term in terms:
                yield from _leaves(term)
        case Not(term):
            yield from _leaves(term)
        case Comparison() | IsIn() | IsSet():
            yield node


def _joined(separator: str, conditions: list[Sql]) -> Sql:
    text = separator.join(f"({condition.text})" for condition in conditions)
    return Sql(text, [parameter for condition in conditions for parameter in condition.parameters])


def _like(text: str) -> str:
    """Escape a text for LIKE."""
    return re.sub(r"([\\%_])", r"\\\1", text)


def _within(text: str) -> str:
    return f"%{_like(text)}%"


def _json(value: str | bool | Decimal) -> str:
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_same(found: Any, candidate: str | bool | Decimal) -> bool:
    """Compare as JSON does: true is not 1, and 1 is 1.0."""
    if isinstance(candidate, Decimal):
        return _is_number(found) and Decimal(str(found)) == candidate
    return type(found) is type(candidate) and bool(found == candidate)
