"""Completion of queries: which field names or values can stand where the text ends."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from devices.queries.fields import Field, FieldType
from devices.queries.registry import complete_path, query_fields
from devices.queries.values import bind
from foundation.queries.errors import BadQuery
from foundation.queries.lexer import KEYWORDS, Token, TokenType, tokens
from foundation.queries.syntax import FieldName

MAX_SUGGESTIONS = 20
# The unfinished word or quoted text at the end.
_UNFINISHED = re.compile(r"""(?P<quote>")(?P<quoted>(?:[^"\\]|\\["\\])*)\Z|(?P<word>[^\s()",=!<>~]*)\Z""")
_BARE = re.compile(r"""[^\s()",=!<>~]+""")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`text` replaces what is unfinished. `hint` says more about a field: how it is used."""

    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """What can replace the text from `start` on. `is_value`: the values of a field, instead of names of fields."""

    start: int
    is_value: bool
    suggestions: Sequence[Suggestion]


def complete(text: str) -> Completion:
    """Return how a query that begins so can go on. Without suggestions if it is wrong before its last word."""
    try:
        unfinished = _unfinished(text)
        before = tokens(text[: unfinished.start()])[:-1]
        field = _compared_field(before)
    except BadQuery:
        return Completion(len(text), False, ())
    if field is not None:
        written = unfinished["quoted"] if unfinished["quote"] else unfinished["word"]
        prefix = re.sub(r"\\(.)", r"\1", written)
        values = [Suggestion(_quoted(value)) for value in values_of(field, prefix)[:MAX_SUGGESTIONS]]
        return Completion(unfinished.start(), True, values)
    if unfinished["quote"] or not _begins_term(before):
        return Completion(len(text), False, ())
    return Completion(unfinished.start(), False, _field_names(unfinished["word"])[:MAX_SUGGESTIONS])


def values_of(field: Field, prefix: str) -> list[str]:
    """Return values of a field that begin with a text, whatever its case."""
    if field.completer is not None:
        return field.completer(prefix)
    choices = ("true", "false") if field.type is FieldType.BOOLEAN else field.choices
    return [choice for choice in choices if choice.startswith(prefix.lower())]


def _unfinished(text: str) -> re.Match[str]:
    """Return the match of the unfinished word or quoted text, which may be empty.

    A quotation mark begins an unfinished text only if it is not the end of a finished one.
    """
    position = 0
    for mark in re.finditer(r'"(?:[^"\\]|\\["\\])*"', text):
        position = mark.end()
    match = _UNFINISHED.search(text, position)
    assert match is not None  # noqa: S101 — the pattern matches an empty text
    return match


def _compared_field(before: Sequence[Token]) -> Field | None:
    """Return the field whose value comes next, or None. Raises `BadQuery` for an unknown field."""
    end = len(before)
    if end >= 2 and before[-1].type is TokenType.OPERATOR:
        return _field(before[-2])
    # A list of values, such as `state in (pending,`
    while end >= 2 and before[end - 1].is_mark(",") and before[end - 2].type in {TokenType.WORD, TokenType.TEXT}:
        end -= 2
    if end >= 3 and before[end - 1].is_mark("(") and before[end - 2].is_keyword("in"):
        return _field(before[end - 3])
    return None


def _field(token: Token) -> Field:
    return bind(FieldName(token.text, token.position))[0]


def _begins_term(before: Sequence[Token]) -> bool:
    """Return whether a new term may begin: not directly after a comma or an unfinished `in` or `is`."""
    if not before:
        return True
    last = before[-1]
    return last.type in {TokenType.WORD, TokenType.TEXT} or last.is_mark("(") or last.is_mark(")") or (
        last.type is TokenType.KEYWORD and last.text in {"and", "or", "not", "set", "ago"}
    )  # fmt: skip


def _field_names(word: str) -> list[Suggestion]:
    first, dot, rest = word.partition(".")
    if not dot:
        return [
            Suggestion(f"{field.name}." if field.path else field.name, field.title if field.path else field.example)
            for field in query_fields().values()
            if field.name.startswith(first.lower())
        ]
    suggestions = []
    for field in query_fields().values():
        if field.name == first and field.path:
            end = "." if len(field.path) > 1 else ""
            parts = complete_path(field.path[0], rest)
            suggestions += [Suggestion(f"{first}.{part}{end}", field.title) for part in parts]
    return suggestions


def _quoted(value: str) -> str:
    if _BARE.fullmatch(value) and value.lower() not in KEYWORDS:
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
