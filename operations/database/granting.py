"""Grant the application's role what `operations.database.grants` finds missing. Idempotent."""

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from operations.database.grants import Connection, Need, Role, missing

LOCK_KEY = (0x6B65726E, 3)
# Timeouts, so that a grant never blocks a running control plane.
SESSION = "SET lock_timeout = '3s'; SET statement_timeout = '60s'"


def grant(connection: Connection, role: Role, report: Callable[[str], object], dsn: str = "") -> list[Need]:
    """Grant what is missing, one statement each, as the role of `connection`. Return what is still missing.

    `report` receives one line for each statement that succeeded or was refused. Concurrent grants wait for each other.
    With `dsn`, the DSN of the application's role, that role itself runs statements that the admin may not
    run. `connection` must be in autocommit.
    """
    connection.execute("SELECT pg_advisory_lock(%s, %s)", LOCK_KEY)
    try:
        connection.execute(SESSION)
        unmet = missing(connection, role)
        if unmet and unmet[0].makes_role:
            meet(connection, unmet[0], report)
            unmet = missing(connection, role)
        for need in unmet:
            meet(connection, need, report, dsn)
        # PostgreSQL only warns about a grant that had no effect, so check again.
        return missing(connection, role)
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s, %s)", LOCK_KEY)


def meet(connection: Connection, need: Need, report: Callable[[str], object], dsn: str = "") -> None:
    """Meet one need. `report` receives the statement, or why it was refused. With `dsn`, the role itself may run it."""
    statement = need.statement.as_string(connection).partition(" PASSWORD ")[0]
    try:
        connection.execute(need.statement)
        report(statement)
    except psycopg.Error as error:
        if need.is_own and dsn and _grant_as_role(dsn, need):
            report(f"{statement} (as the role itself)")
        else:
            outcome = "not done" if need.is_wish else "refused"
            report(f"{outcome}: {statement}: {error.diag.message_primary or str(error).strip()}")


def _grant_as_role(dsn: str, need: Need) -> bool:
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as session:
            session.execute(need.statement)
    except psycopg.Error:
        return False
    return True


def role_of(
    database: dict[str, Any], tables: frozenset[str] = frozenset(), connection_limit: int | None = None
) -> Role:
    """Return the role of an entry of Django's DATABASES."""
    return Role(str(database["USER"]), str(database["PASSWORD"]), str(database["NAME"]), tables, connection_limit)


def dsn_of(database: dict[str, Any]) -> str:
    """Return the entry as a libpq DSN, without the options that only Django and psycopg support."""
    options = {name: value for name, value in database.get("OPTIONS", {}).items() if isinstance(value, str)}
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
    return make_conninfo(**options, **{keyword: database[key] for keyword, key in names.items()})
