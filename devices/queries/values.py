"""Names and values of queries: which field a name means, and what a written value is in the field's type."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from django.utils.dateparse import parse_datetime

from devices.queries.fields import Field, FieldType
from devices.queries.registry import fields_named, query_fields
from foundation.queries.errors import BadQuery
from foundation.queries.syntax import FieldName, Operator, Value

NUMBER_ORDER = (Operator.LESS, Operator.LESS_OR_EQUAL, Operator.GREATER, Operator.GREATER_OR_EQUAL)
EXAMPLE_ID = "6f0c6a5e-3c1d-4b9e-8a53-0c6f2f9f7a11"
_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_AGO = re.compile(r"([0-9]{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def bind(name: FieldName) -> tuple[Field, tuple[str, ...]]:
    """Return the field of a name and the parts after its first dot. Raises `BadQuery`.

    Only the last part may be followed by no dot: the product of `verdict.PRODUCT.KEY` may contain dots, `KEY` may not.
    """
    first, dot, rest = name.text.partition(".")
    fields = fields_named(first)
    if not fields:
        titles = {field.name: field.title for field in reversed(query_fields().values())}
        similar = get_close_matches(first, titles, 1)
        hint = f" Did you mean `{titles[similar[0]]}`?" if similar else ""
        message = f"Unknown field {first[:63]!a}.{hint}"
        raise BadQuery(message, name.position, len(first), tuple(query_fields()))
    for field in fields:
        path = tuple(rest.rsplit(".", len(field.path) - 1)) if dot else ()
        if len(path) == len(field.path) and all(path):
            return field, _checked(field, name, path)
    titles_of_name = tuple(field.title for field in fields)
    written = " or ".join(f"`{title}`" for title in titles_of_name)
    raise BadQuery(f"This field is written {written}.", name.position, name.length, titles_of_name)


def _checked(field: Field, name: FieldName, path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the parts of a name, or raise `BadQuery` if an id is not a UUID."""
    for part, title in zip(path, field.path, strict=True):
        if title == "ID" and not _UUID.fullmatch(part):
            raise BadQuery(f"{part[:80]!a} in `{field.title}` is not an id.", name.position, name.length)
    return path


def check_operator(field: Field, name: FieldName, operator: Operator) -> None:
    """Raise `BadQuery` if the field cannot be compared so."""
    if operator.value not in field.operators:
        raise BadQuery(
            f"`{field.title}` cannot be compared with `{operator}`; it supports {', '.join(field.operators)}.",
            name.position,
            name.length,
            field.operators,
        )


def read_value(field: Field, value: Value, now: datetime, operator: Operator = Operator.EQUAL) -> Any:
    """Return a value in the field's type. Raises `BadQuery`."""
    if field.type is FieldType.JSON and operator in NUMBER_ORDER and not _NUMBER.fullmatch(value.text):
        raise _bad_value(field, value, "a number")
    if value.is_ago and field.type is not FieldType.TIME:
        raise _bad_value(field, value, "a value, not a time")
    match field.type:
        case FieldType.TIME:
            return _time(field, value, now)
        case FieldType.BOOLEAN:
            if value.text not in {"true", "false"}:
                raise _bad_value(field, value, "`true`", "`false`")
            return value.text == "true"
        case FieldType.IDS if not _UUID.fullmatch(value.text):
            raise _bad_value(field, value, f"an id such as `{EXAMPLE_ID}`")
        case FieldType.CHOICE if value.text not in field.choices:
            raise _bad_value(field, value, *(f"`{choice}`" for choice in field.choices))
    return value.text


def json_values(value: Value) -> list[str | bool | Decimal]:
    """Return what a value may be inside a JSON document: `5` is the number 5 or the text "5"; `"5"` is a text only."""
    candidates: list[str | bool | Decimal] = [value.text]
    if not value.is_quoted and value.text in {"true", "false"}:
        candidates.append(value.text == "true")
    if not value.is_quoted and _NUMBER.fullmatch(value.text):
        candidates.append(Decimal(value.text))
    return candidates


def existence(field: Field, value: Value) -> bool | None:
    """Return whether the value asks for any product (`drift = true`) or for none; None if it names a product."""
    is_existence = field.type is FieldType.PRODUCTS and not value.is_quoted and value.text in {"true", "false"}
    return value.text == "true" if is_existence else None


def _time(field: Field, value: Value, now: datetime) -> datetime:
    """Return a time in UTC: PostgreSQL accepts fewer time zones than Python."""
    try:
        time = _time_ago(value, now) if value.is_ago else parse_datetime(value.text)
        if time is not None:
            return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        pass
    raise _bad_value(field, value, "a time such as `2026-11-24T10:00Z` or `10m ago` (s, m, h, d, w)")


def _time_ago(value: Value, now: datetime) -> datetime | None:
    match = _AGO.fullmatch(value.text)
    return now - timedelta(seconds=int(match[1]) * _SECONDS[match[2]]) if match else None


def _bad_value(field: Field, value: Value, *expected: str) -> BadQuery:
    message = f"{value.text[:80]!a} is not a value of `{field.title}`; expected {' or '.join(expected)}."
    return BadQuery(message, value.position, value.length, expected)
