"""Names and values of queries: which field a name means, and what a written value is in the field's type."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from django.utils.dateparse import parse_datetime

from devices.queries.fields import FIELDS, Field, FieldType
from foundation.queries.errors import BadQuery
from foundation.queries.syntax import FieldName, Operator, Value

NUMBER_ORDER = (Operator.LESS, Operator.LESS_OR_EQUAL, Operator.GREATER, Operator.GREATER_OR_EQUAL)
_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
_AGO = re.compile(r"([0-9]{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def bind(name: FieldName) -> tuple[Field, tuple[str, ...]]:
    """Return the field of a name and the parts after its first dot. Raises `BadQuery`.

    Only the last part may be followed by no dot: the product of `verdict.PRODUCT.KEY` may contain dots, `KEY` may not.
    """
    first, _, rest = name.text.partition(".")
    field = FIELDS.get(first)
    if field is None:
        similar = get_close_matches(first, FIELDS, 1)
        hint = f" Did you mean `{FIELDS[similar[0]].title}`?" if similar else ""
        titles = tuple(each.title for each in FIELDS.values())
        raise BadQuery(f"There is no field {first[:63]!a}.{hint}", name.position, len(first), titles)
    path = tuple(rest.rsplit(".", len(field.path) - 1)) if rest else ()
    if len(path) != len(field.path) or not all(path):
        raise BadQuery(f"This field is written `{field.title}`.", name.position, name.length, (field.title,))
    return field, path


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
