"""Give the application role what `operations.database.grants` finds missing. Idempotent."""

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from operations.database.grants import Connection, Need, Role, missing

LOCK_KEY = (0x6B65726E, 3)
# A grant waits this long for others, so that it never stands in the way of a running control plane.
SESSION = "SET lock_timeout = '3s'; SET statement_timeout = '60s'"


def grant(connection: Connection, role: Role, told: Callable[[str], object], address: str = "") -> list[Need]:
    """Give what is missing, one statement each, as whoever `connection` belongs to. Returns what is still missing.

    `told` gets one line for each thing done or refused. Two grants at once wait for each other. With `address`, the
    role's own, the role itself sets what only it may set. `connection` is in autocommit.
    """
    connection.execute("SELECT pg_advisory_lock(%s, %s)", LOCK_KEY)
    try:
        connection.execute(SESSION)
        found = missing(connection, role)
        if found and found[0].makes_role:
            mend(connection, found[0], told)
            found = missing(connection, role)
        for need in found:
            mend(connection, need, told, address)
        # PostgreSQL only warns about a grant that had no effect: look again.
        return missing(connection, role)
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s, %s)", LOCK_KEY)


def mend(connection: Connection, need: Need, told: Callable[[str], object], address: str = "") -> None:
    """Meet one need; `told` gets its statement, or why that was refused. With `address` the role may try itself."""
    statement = need.statement.as_string(connection).partition(" PASSWORD ")[0]
    try:
        connection.execute(need.statement)
        told(statement)
    except psycopg.Error as error:
        if need.is_own and address and _mend_as_role(address, need):
            told(f"{statement} (as the role itself)")
        else:
            outcome = "not done" if need.is_wish else "refused"
            told(f"{outcome}: {statement}: {error.diag.message_primary or str(error).strip()}")


def _mend_as_role(address: str, need: Need) -> bool:
    try:
        with psycopg.connect(address, autocommit=True, connect_timeout=5) as own:
            own.execute(need.statement)
    except psycopg.Error:
        return False
    return True


def role_of(
    database: dict[str, Any], tables: frozenset[str] = frozenset(), connection_limit: int | None = None
) -> Role:
    """The role of one entry of Django's DATABASES."""
    return Role(str(database["USER"]), str(database["PASSWORD"]), str(database["NAME"]), tables, connection_limit)


def address_of(database: dict[str, Any]) -> str:
    """The same entry as a connection string of libpq, without what only Django and psycopg know."""
    options = {name: value for name, value in database.get("OPTIONS", {}).items() if isinstance(value, str)}
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
    return make_conninfo(**options, **{word: database[key] for word, key in names.items()})
