"""Filtering devices by a query in the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import OperationalError, connection, models, transaction
from django.db.models import Q
from django.db.models.expressions import BaseExpression
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone
from psycopg.errors import QueryCanceled

from devices.models import DeviceQuerySet
from devices.queries.conditions import Condition
from foundation.errors import BadRequest
from foundation.queries.errors import BadQuery

# How long one query may take. A query that is too slow is refused, because it would slow down heartbeats.
TIMEOUT_MILLISECONDS = 2_000


class _Matches(BaseExpression):
    """The condition as an expression of Django, for the table of the outermost query."""

    conditional = True
    output_field = models.BooleanField()

    def __init__(self, condition: Condition) -> None:
        super().__init__()
        self.sql = condition.sql()

    def as_sql(self, compiler: SQLCompiler, connection: Any) -> tuple[str, tuple[Any, ...]]:
        table = compiler.quote_name_unless_alias(compiler.query.get_initial_alias())
        return f"({self.sql.text.replace('{device}', table)})", tuple(self.sql.parameters)


def filter_devices(devices: DeviceQuerySet, query: str) -> DeviceQuerySet:
    """Return those of the devices that match a query; all if it is empty.

    Raises:
        BadRequest: `invalid_query`, with `position`, `length` and `expected`; see `BadQuery`.
    """
    return devices.filter(matching(query)) if query.strip() else devices


def matching(query: str) -> Q:
    """Return a query that is not empty as a `Q` for querysets of devices. Raises `BadRequest` (`invalid_query`)."""
    return Q(_Matches(condition_of(query)))


def condition_of(query: str, now: datetime | None = None) -> Condition:
    """Return the condition of a query that is not empty. `now` is the time that `10m ago` counts from.

    Raises:
        BadRequest: `invalid_query`, with `position`, `length` and `expected`; see `BadQuery`.
    """
    try:
        return Condition(query, now or timezone.now())
    except BadQuery as error:
        place = {"position": error.position, "length": error.length, "expected": error.expected}
        raise BadRequest("invalid_query", error.message, **place) from None


def explanation(error: BadRequest) -> str:
    """Return for people what is wrong with a query. They count characters from 1."""
    position = error.extra.get("position")
    return f"{error.message} (at character {position + 1})" if isinstance(position, int) else error.message


@contextmanager
def limited_time() -> Iterator[None]:
    """Run database statements that may take two seconds each.

    Raises:
        BadRequest: `query_too_slow`.
    """
    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(TIMEOUT_MILLISECONDS)])
            yield
    except OperationalError as error:
        if not isinstance(error.__cause__, QueryCanceled):
            raise
        raise BadRequest(
            "query_too_slow",
            f"This query takes more than {TIMEOUT_MILLISECONDS // 1000} seconds: narrow it, for example to a group.",
        ) from None
