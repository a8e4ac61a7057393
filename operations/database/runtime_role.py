"""A second role for web server and scheduler, limited to data. Migrations still run as the role that owns the tables.

A stolen password of this role cannot change the schema, rewrite events or delete recent ones, make roles, or read
files. PostgreSQL itself denies each of these.
"""

from collections.abc import Callable, Iterable, Iterator

import psycopg
from psycopg import sql

from operations.database.granting import meet
from operations.database.grants import (
    Connection,
    Need,
    Role,
    access_needs,
    connection_limit,
    existence,
    hidden_password,
    holds,
    setting_needs,
)

# Tables to which this role only adds rows, and tables that it only reads.
ADDED_TO = frozenset({"events_event"})
READ = frozenset({"django_migrations"})
DELETE_OLD_EVENTS = "public.delete_old_events(integer, integer)"
REVOKE_EVENT_DELETION = f"REVOKE EXECUTE ON FUNCTION {DELETE_OLD_EVENTS} FROM PUBLIC"
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tableowner = current_user ORDER BY 1"


def rights_on(table: str) -> str:
    """Return the role's privileges on a table of Kernex."""
    if table in READ:
        return "SELECT"
    return "SELECT, INSERT" if table in ADDED_TO else "SELECT, INSERT, UPDATE, DELETE"


def admins_needs(role: Role, verifier: str) -> Iterator[Need]:
    """Yield the needs that the database's owner meets: the role, and access to the database."""
    yield existence(role, verifier)
    yield from access_needs(role)
    yield Need(
        f"{role.name} may create tables in schema public.",
        sql.SQL("REVOKE CREATE ON SCHEMA public FROM {}").format(role.identifier),
        "NOT has_schema_privilege(%(role)s, 'public', 'CREATE')",
    )
    yield from setting_needs(role)


def owners_needs(role: Role, tables: list[str]) -> Iterator[Need]:
    """Yield the needs that the owner of the tables meets: rights on each table, and on what migrations will make."""
    for table in tables:
        yield from _table_needs(role, table)
    yield Need(
        f"{role.name} may not use the sequences.",
        sql.SQL("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {}").format(role.identifier),
        "NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND CASE WHEN relkind = 'S'"
        " THEN NOT has_sequence_privilege(%(role)s, oid, 'USAGE') ELSE false END)",
    )
    yield from _event_deletion_needs(role)
    yield _later_need(role, "TABLES", "SELECT, INSERT, UPDATE, DELETE", "r")
    yield _later_need(role, "SEQUENCES", "USAGE, SELECT", "S")


def _event_deletion_needs(role: Role) -> Iterator[Need]:
    """Yield the needs for the function that deletes old events: this role may call it, and PUBLIC may not.

    Before the first migration the function does not exist, and nothing is needed.
    """
    exists = f"to_regprocedure('{DELETE_OLD_EVENTS}') IS NULL"
    yield Need(
        f"{role.name} may not delete expired events.",
        sql.SQL(f"GRANT EXECUTE ON FUNCTION {DELETE_OLD_EVENTS} TO {{}}").format(role.identifier),
        f"{exists} OR has_function_privilege(%(role)s, to_regprocedure('{DELETE_OLD_EVENTS}'), 'EXECUTE')",
    )
    yield Need(
        "Every role may delete expired events.",
        sql.SQL(REVOKE_EVENT_DELETION),
        f"{exists} OR NOT EXISTS (SELECT FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS acl"
        f" WHERE pg_proc.oid = to_regprocedure('{DELETE_OLD_EVENTS}') AND acl.grantee = 0)",
    )


def _table_needs(role: Role, table: str) -> Iterator[Need]:
    rights = rights_on(table)
    excess = [right for right in ("INSERT", "UPDATE", "DELETE", "TRUNCATE") if right not in rights]
    qualified_name, name = sql.Identifier("public", table), role.identifier
    yield Need(
        f"{role.name} lacks rights on the table {table}.",
        sql.SQL(f"GRANT {rights} ON {{}} TO {{}}").format(qualified_name, name),
        " AND ".join(f"has_table_privilege(%(role)s, %(detail)s, '{right}')" for right in rights.split(", ")),
        detail=f"public.{table}",
    )
    yield Need(
        f"{role.name} has more rights on the table {table} than it should.",
        sql.SQL(f"REVOKE {', '.join(excess)} ON {{}} FROM {{}}").format(qualified_name, name),
        " AND ".join(f"NOT has_table_privilege(%(role)s, %(detail)s, '{right}')" for right in excess),
        detail=f"public.{table}",
    )


def _later_need(role: Role, kind: str, rights: str, objtype: str) -> Need:
    return Need(
        f"{role.name} would lack rights on {kind.lower()} that migrations make later.",
        sql.SQL(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {rights} ON {kind} TO {{}}").format(role.identifier),
        "EXISTS (SELECT FROM pg_default_acl, aclexplode(defaclacl) AS acl WHERE defaclrole = current_user::regrole"  # noqa: S608
        f" AND defaclobjtype = '{objtype}' AND defaclnamespace = 'public'::regnamespace"
        " AND grantee = (SELECT oid FROM pg_roles WHERE rolname = %(role)s))",
    )


def missing(connection: Connection, role: Role, needs: Iterable[Need]) -> list[Need]:
    """Return the needs that are not met: all of them if the role does not exist."""
    unmet = []
    for need in needs:
        try:
            if not holds(connection, role, need):
                unmet.append(need)
        except psycopg.errors.UndefinedObject:  # the role
            unmet.append(need)
    return unmet


def grant_runtime(
    admin: Connection, owner: Connection, role: Role, report: Callable[[str], object], *, is_check: bool = False
) -> list[Need]:
    """Grant what is missing, and return what is still missing. With `is_check`, only return it.

    Both connections must be in autocommit. `report` gets one line for each statement.
    """
    needs = [*admins_needs(role, hidden_password(admin, role)), connection_limit(admin, role)]
    unmet = _grant(admin, role, needs, report, is_check)
    return unmet + _grant(owner, role, list(owners_needs(role, tables_of(owner))), report, is_check)


def _grant(
    connection: Connection, role: Role, needs: list[Need], report: Callable[[str], object], is_check: bool
) -> list[Need]:
    unmet = missing(connection, role, needs)
    if is_check:
        return unmet
    for need in unmet:
        meet(connection, need, report)
    return missing(connection, role, needs)


def tables_of(owner: Connection) -> list[str]:
    """Return the tables in schema public that the connected role owns."""
    return [str(table) for (table,) in owner.execute(_TABLES).fetchall()]
