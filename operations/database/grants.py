"""The application's role's needs in the database: an SQL condition that checks each, and the statement that meets it.

Since PostgreSQL 15 only a database's owner may create tables in schema `public`. A role that was created in a
provider's console lacks that right and fails at its first migration. This module finds what a role lacks;
`operations.database.granting` grants it. Neither imports Django.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

SCHEMA = "public"
# How many connections the role leaves to people and backups, so that an administrator can always connect.
LEFT_TO_PEOPLE = 2
SETTINGS = {
    "search_path": "public",
    "client_encoding": "UTF8",
    "timezone": "UTC",
    "lock_timeout": "3s",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "15s",
}
TABLE_RIGHTS = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"
SEQUENCE_RIGHTS = "USAGE, SELECT, UPDATE"

Connection: TypeAlias = psycopg.Connection[Any]
# The access list of the schema, or its default if none was set.
_SCHEMA_ACL = "pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) AS acl WHERE nspname = 'public'"
# Connections that the server reserves for superusers and, since 16, for chosen roles do not count.
_MOST_CONNECTIONS = (
    "SELECT greatest(1, current_setting('max_connections')::int"
    " - current_setting('superuser_reserved_connections')::int"
    " - coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0) - %s)"
)
_PUBLIC_CREATES = f"EXISTS (SELECT FROM {_SCHEMA_ACL} AND grantee = 0 AND privilege_type = 'CREATE')"


@dataclass(frozen=True, slots=True)
class Role:
    """The application's role, as DATABASE_URL names it.

    It must own `tables` to migrate them. `connection_limit` is how many connections it may open; None means all
    that the server offers.
    """

    name: str
    password: str = field(repr=False)
    database: str
    tables: frozenset[str] = frozenset()
    connection_limit: int | None = None

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.name)


@dataclass(frozen=True, slots=True)
class Need:
    """One condition that must hold. If it does not, `lack` says so in a sentence and `statement` fixes it.

    `holds` is an SQL expression over the parameters `role`, `database` and `detail`. With `is_own`, the role itself may
    also run the statement. With `is_wish`, Kernex works without it: it is reported, but not as a failure.
    """

    lack: str
    statement: sql.Composed | sql.SQL
    holds: str
    detail: str = ""
    is_own: bool = False
    makes_role: bool = False
    is_wish: bool = False


def needs(role: Role, admin: str, verifier: str = "") -> Iterator[Need]:
    """Yield everything that Kernex needs, in the order in which it can be granted. The role itself comes first.

    `admin` is the role that grants; `verifier` stands for the password of a new role (see `hidden_password`).
    """
    yield existence(role, verifier)
    yield Need(
        f"{role.name} may not log in.",
        sql.SQL("ALTER ROLE {} LOGIN").format(role.identifier),
        "(SELECT rolcanlogin FROM pg_roles WHERE rolname = %(role)s)",
    )
    yield from access_needs(role)
    yield from _creation_needs(role)
    yield from _object_needs(role, admin)
    yield from setting_needs(role)


def existence(role: Role, verifier: str) -> Need:
    """Return the need for the role itself."""
    return Need(
        f"The role {role.name} does not exist.",
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role.identifier, sql.Literal(verifier)),
        "EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s)",
        makes_role=True,
    )


def access_needs(role: Role) -> Iterator[Need]:
    """Yield the needs for connecting, and for using the schema."""
    yield Need(
        f"{role.name} may not connect to the database {role.database}.",
        sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(role.database), role.identifier),
        "has_database_privilege(%(role)s, %(database)s, 'CONNECT')",
    )
    yield Need(
        f"{role.name} may not use objects in schema {SCHEMA}.",
        sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role.identifier),
        "has_schema_privilege(%(role)s, 'public', 'USAGE')",
    )


def _creation_needs(role: Role) -> Iterator[Need]:
    yield Need(
        f"{role.name} may not create tables in schema {SCHEMA}.",
        sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(role.identifier),
        # CREATE held through PUBLIC is revoked below, so it does not count as the role's own.
        f"has_schema_privilege(%(role)s, 'public', 'CREATE') AND (NOT {_PUBLIC_CREATES} OR EXISTS (SELECT FROM "
        f"{_SCHEMA_ACL} AND grantee <> 0 AND privilege_type = 'CREATE' AND pg_has_role(%(role)s, grantee, 'USAGE')))",
    )
    yield Need(
        f"Every role may create tables in schema {SCHEMA}.",
        sql.SQL("REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
        f"NOT {_PUBLIC_CREATES}",
    )


def _object_needs(role: Role, admin: str) -> Iterator[Need]:
    """Yield the needs for tables and sequences of other owners, and for those that the admin will make."""
    yield from _kind_needs(role, admin, "table", "'r', 'p', 'v', 'm', 'f'", TABLE_RIGHTS, "r")
    yield from _kind_needs(role, admin, "sequence", "'S'", SEQUENCE_RIGHTS, "S")


def _kind_needs(role: Role, admin: str, kind: str, relkinds: str, rights: str, objtype: str) -> Iterator[Need]:
    names = rights.split(", ")
    each = " AND ".join(f"has_{kind}_privilege(%(role)s, pg_class.oid, '{right}')" for right in names)
    on = f"{rights} ON {{}}{kind.upper()}S"
    yield Need(
        f"{role.name} lacks rights on {kind}s of another owner in schema {SCHEMA}.",
        sql.SQL(f"GRANT {on.format('ALL ')} IN SCHEMA public TO {{}}").format(role.identifier),
        # CASE keeps PostgreSQL from checking relations of another kind.
        "NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        f" AND CASE WHEN relkind IN ({relkinds}) THEN NOT ({each}) ELSE false END)",
    )
    yield Need(
        f"{role.name} would lack rights on {kind}s that {admin} makes later.",
        sql.SQL(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT {on.format('')} TO {{}}").format(role.identifier),
        # The role owns what it makes itself.
        "current_user = %(role)s OR (SELECT count(*) FROM pg_default_acl, aclexplode(defaclacl) AS acl"  # noqa: S608
        f" WHERE defaclrole = current_user::regrole AND defaclobjtype = '{objtype}'"
        " AND defaclnamespace = 'public'::regnamespace"
        " AND grantee = (SELECT oid FROM pg_roles WHERE rolname = %(role)s)"
        f" AND privilege_type = ANY (string_to_array('{rights}', ', '))) = {len(names)}",
    )


def setting_needs(role: Role) -> Iterator[Need]:
    """Yield the needs for the settings of its sessions."""
    for name, value in SETTINGS.items():
        yield Need(
            f"{role.name} does not have {name} = {value}.",
            sql.SQL("ALTER ROLE {} SET {} = {}").format(role.identifier, sql.Identifier(name), sql.Literal(value)),
            "EXISTS (SELECT FROM pg_roles, unnest(rolconfig) AS kept WHERE rolname = %(role)s"
            " AND lower(split_part(kept, '=', 1)) || substr(kept, strpos(kept, '=')) = %(detail)s)",
            detail=f"{name}={value}",
            is_own=True,
        )


def connection_limit(connection: Connection, role: Role) -> Need:
    """Return the need (a wish) that a connection leak in this role cannot use up the server.

    Since PostgreSQL 16 an admin may limit only roles that it created.
    """
    row = connection.execute(_MOST_CONNECTIONS, [LEFT_TO_PEOPLE]).fetchone()
    limit = role.connection_limit or (row[0] if row else -1)
    return Need(
        f"{role.name} is not limited to {limit} connections.",
        sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(role.identifier, sql.Literal(limit)),
        "(SELECT rolconnlimit = %(detail)s::int FROM pg_roles WHERE rolname = %(role)s)",
        detail=str(limit),
        is_wish=True,
    )


def _owner_needs(role: Role, admin: str, foreign: Iterable[str]) -> Iterator[Need]:
    """Yield the needs for Kernex's own tables that another role made, as when a migration ran as the admin."""
    for number, table in enumerate(foreign):
        if number == 0:
            yield Need(
                f"{admin} may not hand tables to {role.name}.",
                sql.SQL("GRANT {} TO CURRENT_USER").format(role.identifier),
                "pg_has_role(current_user, %(role)s,"
                " CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END)",
            )
        yield Need(
            f"The table {table} belongs to another role, so that {role.name} cannot migrate it.",
            sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier(SCHEMA, table), role.identifier),
            f"NOT {_IS_FOREIGN}",
            detail=table,
        )


_IS_FOREIGN = (
    "EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public' AND tablename = %(detail)s"
    " AND NOT pg_has_role(%(role)s, tableowner, 'USAGE'))"
)


def missing(connection: Connection, role: Role) -> list[Need]:
    """Return the needs that are not met in the database of `connection`. Reads only; every role may call it.

    If the role does not exist, everything is missing.
    """
    (admin,) = connection.execute("SELECT current_user").fetchone() or ("",)
    everything = [*needs(role, admin, hidden_password(connection, role)), connection_limit(connection, role)]
    if not holds(connection, role, everything[0]):
        return everything
    foreign = [table for table in sorted(role.tables) if _ask(connection, role, _IS_FOREIGN, table)]
    everything += _owner_needs(role, admin, foreign)
    return [need for need in everything if not holds(connection, role, need)]


def holds(connection: Connection, role: Role, need: Need) -> bool:
    """Return whether a need is met."""
    return _ask(connection, role, need.holds, need.detail)


def _ask(connection: Connection, role: Role, expression: str, detail: str) -> bool:
    values = {"role": role.name, "database": role.database, "detail": detail}
    row = connection.execute(f"SELECT {expression}".encode(), values).fetchone()
    return bool(row and row[0])


def hidden_password(connection: Connection, role: Role) -> str:
    """Return the role's password as a SCRAM verifier, so that no statement or server log contains it in clear."""
    return connection.pgconn.encrypt_password(role.password.encode(), role.name.encode(), b"scram-sha-256").decode()


def as_sql(unmet: Iterable[Need]) -> str:
    """Return statements that a person can paste into a console."""
    return "\n".join(f"-- {need.lack}\n{need.statement.as_string(None)};" for need in unmet)


def obstacle(connection: Connection) -> str:
    """Return PostgreSQL's error text if the connected role cannot work in this database; empty if it can."""
    row = connection.execute(
        "SELECT has_schema_privilege('public', 'USAGE'), has_schema_privilege('public', 'CREATE'),"
        " EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public' AND tablename = 'django_migrations')"
    ).fetchone()
    uses, creates, is_migrated = row or (True, True, True)
    return "" if uses and (creates or is_migrated) else "permission denied for schema public"


def explanation(role: str, problem: str) -> str:
    """Return the paragraph with which a process exits when its role lacks a privilege."""
    return (
        f"The database role {role} lacks a privilege that Kernex needs: {problem.strip()}. Grant it once as the "
        "database's owner, and start again:\n\n"
        "    ADMIN_DATABASE_URL=postgresql://doadmin@HOST:PORT/DATABASE ADMIN_PASSWORD_FILE=… \\\n"
        "        python manage.py grant_perms\n\n"
        "`python manage.py grant_perms --print-sql` shows the same as SQL for a web console."
    )
