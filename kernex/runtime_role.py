"""A second role for web server and scheduler: data alone. Migrations go on running as the role that owns the tables.

What a stolen password of this role cannot do: change the schema, rewrite or delete events, make roles, read files. Each
is denied by PostgreSQL itself.
"""

from collections.abc import Callable, Iterable, Iterator

import psycopg
from psycopg import sql

from kernex.grants import SETTINGS, Connection, Need, Role, holds

# What is only ever added to, and what is only ever read, by the processes that use this role.
ADDED_TO = frozenset({"events_event"})
READ = frozenset({"django_migrations"})
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tableowner = current_user ORDER BY 1"


def rights_on(table: str) -> str:
    """What the role may do with a table of Kernex."""
    if table in READ:
        return "SELECT"
    return "SELECT, INSERT" if table in ADDED_TO else "SELECT, INSERT, UPDATE, DELETE"


def admins_needs(role: Role, verifier: str) -> Iterator[Need]:
    """What the database's owner gives: the role, and the way in."""
    name = role.identifier
    yield Need(
        f"The role {role.name} does not exist.",
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(verifier)),
        "EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s)",
    )
    yield Need(
        f"{role.name} may not connect to the database {role.database}.",
        sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(role.database), name),
        "has_database_privilege(%(role)s, %(database)s, 'CONNECT')",
    )
    yield Need(
        f"{role.name} may not use what is in schema public.",
        sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name),
        "has_schema_privilege(%(role)s, 'public', 'USAGE')",
    )
    yield Need(
        f"{role.name} may create tables in schema public.",
        sql.SQL("REVOKE CREATE ON SCHEMA public FROM {}").format(name),
        "NOT has_schema_privilege(%(role)s, 'public', 'CREATE')",
    )
    for setting, value in SETTINGS.items():
        yield Need(
            f"{role.name} does not have {setting} = {value}.",
            sql.SQL("ALTER ROLE {} SET {} = {}").format(name, sql.Identifier(setting), sql.Literal(value)),
            "EXISTS (SELECT FROM pg_roles, unnest(rolconfig) AS kept WHERE rolname = %(role)s"
            " AND lower(split_part(kept, '=', 1)) || substr(kept, strpos(kept, '=')) = %(detail)s)",
            detail=f"{setting}={value}",
        )


def owners_needs(role: Role, tables: list[str]) -> Iterator[Need]:
    """What the owner of the tables gives: data, table by table, and what migrations will make."""
    for table in tables:
        rights = rights_on(table)
        excess = [right for right in ("INSERT", "UPDATE", "DELETE", "TRUNCATE") if right not in rights]
        place, name = sql.Identifier("public", table), role.identifier
        each = " AND ".join(f"has_table_privilege(%(role)s, %(detail)s, '{right}')" for right in rights.split(", "))
        yield Need(
            f"{role.name} lacks rights on the table {table}.",
            sql.SQL(f"GRANT {rights} ON {{}} TO {{}}").format(place, name),
            each,
            detail=f"public.{table}",
        )
        yield Need(
            f"{role.name} may do more with the table {table} than it should.",
            sql.SQL(f"REVOKE {', '.join(excess)} ON {{}} FROM {{}}").format(place, name),
            " AND ".join(f"NOT has_table_privilege(%(role)s, %(detail)s, '{right}')" for right in excess),
            detail=f"public.{table}",
        )
    yield Need(
        f"{role.name} may not draw from the sequences.",
        sql.SQL("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {}").format(role.identifier),
        "NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND CASE WHEN relkind = 'S'"
        " THEN NOT has_sequence_privilege(%(role)s, oid, 'USAGE') ELSE false END)",
    )
    for kind, rights, objtype in (
        ("TABLES", "SELECT, INSERT, UPDATE, DELETE", "r"),
        ("SEQUENCES", "USAGE, SELECT", "S"),
    ):
        yield Need(
            f"{role.name} would lack rights on {kind.lower()} that migrations make later.",
            sql.SQL(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {rights} ON {kind} TO {{}}").format(
                role.identifier
            ),
            "EXISTS (SELECT FROM pg_default_acl, aclexplode(defaclacl) AS acl WHERE defaclrole = current_user::regrole"  # noqa: S608
            f" AND defaclobjtype = '{objtype}' AND defaclnamespace = 'public'::regnamespace"
            " AND grantee = (SELECT oid FROM pg_roles WHERE rolname = %(role)s))",
        )


def missing(connection: Connection, role: Role, needs: Iterable[Need]) -> list[Need]:
    """Those that do not hold; where the role is missing, all."""
    found = []
    for need in needs:
        try:
            if not holds(connection, role, need):
                found.append(need)
        except psycopg.errors.UndefinedObject:  # the role
            found.append(need)
    return found


def grant_runtime(
    admin: Connection, owner: Connection, role: Role, told: Callable[[str], object], *, is_check: bool = False
) -> list[Need]:
    """Give what is missing, or only find it. Returns what is still missing. Both connections are in autocommit."""
    verifier = admin.pgconn.encrypt_password(role.password.encode(), role.name.encode(), b"scram-sha-256").decode()
    left = _give(admin, role, list(admins_needs(role, verifier)), told, is_check)
    return left + _give(owner, role, list(owners_needs(role, own_tables(owner))), told, is_check)


def _give(
    connection: Connection, role: Role, needs: list[Need], told: Callable[[str], object], is_check: bool
) -> list[Need]:
    found = missing(connection, role, needs)
    if is_check:
        return found
    for need in found:
        _mend(connection, need, told)
    return missing(connection, role, needs)


def own_tables(owner: Connection) -> list[str]:
    return [str(table) for (table,) in owner.execute(_TABLES).fetchall()]


def _mend(connection: Connection, need: Need, told: Callable[[str], object]) -> None:
    statement = need.statement.as_string(connection).partition(" PASSWORD ")[0]
    try:
        connection.execute(need.statement)
        told(statement)
    except psycopg.Error as error:
        told(f"refused: {statement}: {error.diag.message_primary or str(error).strip()}")
