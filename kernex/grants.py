"""What the application's role needs of the database, what it lacks, and the SQL that gives it.

Since PostgreSQL 15 nobody but a database's owner may create tables in schema `public`: an application role that was
only made, as a provider's console makes it, dies at its first migration. `gaps` names what is missing, one `Gap` each,
with the sentence that people read and the statement that mends it.
"""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

SCHEMA = "public"
SETTINGS = {
    "search_path": "public",
    "client_encoding": "UTF8",
    "timezone": "UTC",
    "lock_timeout": "3s",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "15s",
}
TABLE_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
SEQUENCE_RIGHTS = ("USAGE", "SELECT", "UPDATE")


@dataclass(frozen=True, slots=True)
class Gap:
    """One thing that the role lacks: `sentence` for people, `statement` that mends it."""

    sentence: str
    statement: sql.Composed


@dataclass(frozen=True, slots=True)
class Role:
    """The application's role, as DATABASE_URL names it."""

    name: str
    password: str
    database: str

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.name)


def exists(connection: psycopg.Connection[Any], role: Role) -> bool:
    return connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role.name]).fetchone() is not None


def make_role(role: Role) -> Gap:
    """What makes the role when there is none."""
    return Gap(
        f"The role {role.name} does not exist.",
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role.identifier, sql.Literal(role.password)),
    )


def gaps(connection: psycopg.Connection[Any], role: Role) -> list[Gap]:
    """What an existing role lacks in the database of `connection`. Reads only; any login may ask."""
    return [*_database_gaps(connection, role), *_object_gaps(connection, role), *_setting_gaps(connection, role)]


def _database_gaps(connection: psycopg.Connection[Any], role: Role) -> list[Gap]:
    found = []
    database = sql.Identifier(role.database)
    if not _ask(connection, "has_database_privilege(%s, %s, 'CONNECT')", role.name, role.database):
        found.append(
            Gap(
                f"{role.name} may not connect to the database {role.database}.",
                sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, role.identifier),
            )
        )
    for right, purpose in (("USAGE", "use what is in"), ("CREATE", "create tables in")):
        if not _ask(connection, "has_schema_privilege(%s, %s, %s)", role.name, SCHEMA, right):
            found.append(
                Gap(
                    f"{role.name} may not {purpose} schema {SCHEMA}.",
                    sql.SQL("GRANT {} ON SCHEMA {} TO {}").format(
                        sql.SQL(right), sql.Identifier(SCHEMA), role.identifier
                    ),
                )
            )
    everybody = "EXISTS (SELECT FROM pg_namespace, aclexplode(nspacl) AS acl WHERE nspname = %s AND grantee = 0" \
        " AND privilege_type = 'CREATE')"  # fmt: skip
    if _ask(connection, everybody, SCHEMA):
        found.append(
            Gap(
                f"Every role may create tables in schema {SCHEMA}.",
                sql.SQL("REVOKE CREATE ON SCHEMA {} FROM PUBLIC").format(sql.Identifier(SCHEMA)),
            )
        )
    return found


def _object_gaps(connection: psycopg.Connection[Any], role: Role) -> list[Gap]:
    """Tables and sequences that somebody else made, and those that the admin is yet to make."""
    found = []
    kinds = (("TABLES", "('r', 'p', 'v', 'm')", TABLE_RIGHTS, "has_table_privilege"),
             ("SEQUENCES", "('S')", SEQUENCE_RIGHTS, "has_sequence_privilege"))  # fmt: skip
    for what, relkinds, rights, function in kinds:
        lacking = " OR ".join(f"NOT {function}(%(role)s, pg_class.oid, '{right}')" for right in rights)
        names = connection.execute(
            f"SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"  # noqa: S608 - our own words
            f" WHERE nspname = %(schema)s AND relkind IN {relkinds} AND ({lacking}) ORDER BY relname",
            {"role": role.name, "schema": SCHEMA},
        ).fetchall()
        if names:
            shown = ", ".join(name for (name,) in names[:5]) + (", …" if len(names) > 5 else "")
            found.append(
                Gap(
                    f"{role.name} lacks rights on {len(names)} {what.lower()} of another owner ({shown}).",
                    sql.SQL("GRANT {} ON ALL {} IN SCHEMA {} TO {}").format(
                        sql.SQL(", ".join(rights)), sql.SQL(what), sql.Identifier(SCHEMA), role.identifier
                    ),
                )
            )
        found += _default_gap(connection, role, what, rights)
    return found


def _default_gap(connection: psycopg.Connection[Any], role: Role, what: str, rights: tuple[str, ...]) -> list[Gap]:
    """Rights on what whoever is connected makes later. Nothing for the role itself: it owns what it makes."""
    granted = connection.execute(
        "SELECT privilege_type FROM pg_default_acl, aclexplode(defaclacl) AS acl"
        " WHERE defaclrole = (SELECT oid FROM pg_roles WHERE rolname = current_user) AND defaclobjtype = %s"
        " AND defaclnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s)"
        " AND grantee = (SELECT oid FROM pg_roles WHERE rolname = %s)",
        ["r" if what == "TABLES" else "S", SCHEMA, role.name],
    ).fetchall()
    (owner,) = connection.execute("SELECT current_user").fetchone() or ("",)
    if owner == role.name or {right for (right,) in granted} >= set(rights):
        return []
    return [
        Gap(
            f"{role.name} would lack rights on {what.lower()} that {owner} makes later.",
            sql.SQL("ALTER DEFAULT PRIVILEGES IN SCHEMA {} GRANT {} ON {} TO {}").format(
                sql.Identifier(SCHEMA), sql.SQL(", ".join(rights)), sql.SQL(what), role.identifier
            ),
        )
    ]


def _setting_gaps(connection: psycopg.Connection[Any], role: Role) -> list[Gap]:
    kept = connection.execute(
        "SELECT coalesce(rolconfig, '{}') FROM pg_roles WHERE rolname = %s", [role.name]
    ).fetchone()
    has = {name.lower(): value for name, _, value in (item.partition("=") for item in (kept or [[]])[0])}
    return [
        Gap(
            f"{role.name} has {name} {has.get(name) or 'unset'} instead of {value}.",
            sql.SQL("ALTER ROLE {} SET {} = {}").format(role.identifier, sql.Identifier(name), sql.Literal(value)),
        )
        for name, value in SETTINGS.items()
        if has.get(name) != value
    ]


def _ask(connection: psycopg.Connection[Any], expression: str, *values: str) -> bool:
    row = connection.execute(f"SELECT {expression}", values).fetchone()
    return bool(row and row[0])


def explanation(role: str, problem: str) -> str:
    """The paragraph that a process ends with when its role lacks something."""
    return (
        f"The database role {role} lacks a privilege that Kernex needs: {problem.strip()}. Grant it once as the "
        "database's owner, and start again:\n\n"
        "    ADMIN_DATABASE_URL=postgresql://doadmin:…@HOST:PORT/DATABASE python manage.py grant_perms\n\n"
        "`python manage.py grant_perms --print-sql` shows the same as SQL for a web console."
    )
