"""Grant the application's role what Kernex needs, or show what is missing."""

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import dataclass
from getpass import getpass
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from foundation.environment import Environment
from operations.database.granting import dsn_of, grant, role_of
from operations.database.grants import Connection, Need, Role, as_sql, missing, needs
from operations.database.runtime_role import grant_runtime
from operations.database.tables import own_tables

# The largest max_connections that PostgreSQL accepts.
MAX_CONNECTIONS = 262_143
NO_ADMIN = (
    "No admin is named. Set ADMIN_DATABASE_URL (or ADMIN_DATABASE_URL_FILE) to the URL of the database's owner, such "
    "as postgresql://doadmin@HOST:PORT/DATABASE, and ADMIN_PASSWORD_FILE to a file with its password."
)


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What is missing, a sentence each. Kernex needs `problems` solved; it works without `notes`."""

    problems: list[str]
    notes: list[str]

    @classmethod
    def of(cls, unmet: list[Need]) -> "Shortfall":
        return cls([need.lack for need in required(unmet)], [need.lack for need in unmet if need.is_wish])


def required(unmet: list[Need]) -> list[Need]:
    """Return the needs without which Kernex does not work."""
    return [need for need in unmet if not need.is_wish]


def positive(text: str) -> int:
    """Parse a whole number from 1 to MAX_CONNECTIONS, as argparse's `type`."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_CONNECTIONS):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MAX_CONNECTIONS}")
    return int(text)


class Command(BaseCommand):
    help = (
        "Grant the role of DATABASE_URL what Kernex needs, connected as the admin of ADMIN_DATABASE_URL. Idempotent, "
        "safe beside a running control plane. Exit code 1: something is missing or could not be granted."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--admin-url",
            help="replaces ADMIN_DATABASE_URL; must not contain the password, which comes from ADMIN_PASSWORD_FILE, "
            "ADMIN_PASSWORD, ~/.pgpass or the terminal",
        )
        parser.add_argument(
            "--runtime-role",
            metavar="NAME",
            help="also grant a role for web server and scheduler, limited to data; RUNTIME_PASSWORD or "
            "RUNTIME_PASSWORD_FILE holds its password",
        )
        parser.add_argument(
            "--connection-limit",
            type=positive,
            metavar="N",
            help="how many connections the role may open at once (default: all of the server's except 2 for people)",
        )
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument("--check", action="store_true", help="only show what is missing; exit code 1 if anything is")
        mode.add_argument("--print-sql", action="store_true", help="only print the SQL that would run")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines for people")

    def handle(self, *args: Any, **options: Any) -> None:
        database = settings.DATABASES["default"]
        self.role, self.own = role_of(database, own_tables(), options["connection_limit"]), dsn_of(database)
        self.is_json = bool(options["json"])
        admin = self.admin_dsn(options["admin_url"])
        if options["print_sql"]:
            self.print_sql(admin or self.own)
        elif admin is None and not options["check"]:
            raise CommandError(NO_ADMIN)
        else:
            self.check_or_grant(admin, options["runtime_role"], is_check=options["check"])

    def check_or_grant(self, admin: str | None, runtime_role: str | None, *, is_check: bool) -> None:
        try:
            with self.connect(admin) as connection:
                if is_check:
                    self.show_missing(connection)
                else:
                    self.grant(connection)
                if runtime_role:
                    self.grant_runtime(connection, runtime_role, is_check=is_check)
        except psycopg.Error as error:
            name = "the admin" if admin else self.role.name
            raise CommandError(f"The database refused {name}: {str(error).strip()}") from None

    def admin_dsn(self, option: str | None) -> str | None:
        """Return the admin's DSN for the application's database; None if no admin is named.

        `option` is the value of --admin-url. Raises `CommandError` if it contains a password, or is not a URL.
        """
        env = Environment()
        url, password = option or env.text("ADMIN_DATABASE_URL"), env.text("ADMIN_PASSWORD")
        if not url:
            return None
        try:
            dsn = make_conninfo(url, dbname=self.role.database, **({"password": password} if password else {}))
            is_exposed = bool(option) and "password" in conninfo_to_dict(url)
        except psycopg.ProgrammingError:  # its text may contain the password
            raise CommandError(
                "The admin's URL is not valid: it must be postgresql://USER@HOST:PORT/DATABASE."
            ) from None
        if is_exposed:
            raise CommandError(
                "Every user of this machine can read the password in --admin-url: leave it out. Set "
                "ADMIN_PASSWORD_FILE or ADMIN_PASSWORD, or type it at the terminal."
            )
        return dsn

    def connect(self, admin: str | None) -> Connection:
        """Connect as the admin if there is one, else as the application's role.

        At a terminal, ask for a missing password. Raises `psycopg.OperationalError`.
        """
        try:
            return psycopg.connect(admin or self.own, autocommit=True, connect_timeout=10)
        except psycopg.OperationalError as error:
            if admin is None or "no password supplied" not in str(error) or not sys.stdin.isatty():
                raise
        dsn = make_conninfo(admin, password=getpass("The admin's password: "))
        return psycopg.connect(dsn, autocommit=True, connect_timeout=10)

    def grant(self, connection: Connection) -> None:
        """Grant what is missing, and print each statement. Raises `CommandError` if something is still missing."""
        done: list[str] = []
        unmet = grant(connection, self.role, done.append if self.is_json else self.stdout.write, self.own)
        shortfall = Shortfall.of(unmet)
        problems = shortfall.problems or self.login_problems()
        if self.is_json:
            self.stdout.write(json.dumps({"done": done, "missing": problems, "notes": shortfall.notes}))
        if problems:
            raise CommandError("\n".join(["Some needs could not be met:", *problems, *self.remedy(required(unmet))]))
        self.write_success()

    def grant_runtime(self, admin: Connection, name: str, *, is_check: bool) -> None:
        """Grant the runtime role, or only check it. Raises `CommandError` if something is missing."""
        env = Environment()
        password = env.text("RUNTIME_PASSWORD")
        role = Role(name, password, self.role.database, connection_limit=self.role.connection_limit)
        if name == self.role.name or not role.password:
            raise CommandError(
                "--runtime-role needs a role other than DATABASE_URL's, and its password in RUNTIME_PASSWORD or"
                " RUNTIME_PASSWORD_FILE."
            )
        done: list[str] = []
        with psycopg.connect(self.own, autocommit=True, connect_timeout=10) as owner:
            unmet = required(grant_runtime(admin, owner, role, done.append, is_check=is_check))
        if not self.is_json:
            self.stdout.write("\n".join(done))
        if unmet:
            raise CommandError("\n".join([need.lack for need in unmet]))
        if not self.is_json:
            self.stdout.write(f"{name} may read and write data in {role.database}, and nothing else.")

    def show_missing(self, connection: Connection) -> None:
        """Print what is missing. Raises `CommandError` if Kernex needs any of it."""
        unmet = missing(connection, self.role)
        if unmet and unmet[0].makes_role:
            unmet = unmet[:1]  # without the role, everything else is missing, too
        shortfall = Shortfall.of(unmet)
        problems = shortfall.problems or self.login_problems()
        if self.is_json:
            self.stdout.write(json.dumps({"missing": problems, "notes": shortfall.notes}))
        if problems:
            raise CommandError("\n".join([*problems, *shortfall.notes, "`python manage.py grant_perms` fixes this."]))
        if not self.is_json:
            for note in shortfall.notes:
                self.stdout.write(f"{note} Kernex works without that.")
        self.write_success()

    def write_success(self) -> None:
        if not self.is_json:
            self.stdout.write(f"{self.role.name} has all that Kernex needs in {self.role.database}.")

    def print_sql(self, dsn: str) -> None:
        """Print the SQL for what is missing, or for everything if the database cannot be reached."""
        try:
            with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
                unmet = missing(connection, self.role)
        except psycopg.OperationalError:
            self.stderr.write("The database cannot be reached, so this is the SQL for everything that Kernex needs.")
            unmet = list(needs(self.role, "the admin", "choose a password"))
        statements = [need.statement.as_string(None) for need in unmet]
        self.stdout.write(json.dumps({"sql": statements}) if self.is_json else as_sql(unmet))

    def login_problems(self) -> list[str]:
        """Return a sentence if DATABASE_URL's password is wrong.

        A server that cannot be reached from this machine is not a problem of grants.
        """
        try:
            psycopg.connect(self.own, connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                return [f"{self.role.name} cannot log in: DATABASE_URL has another password than the role."]
        return []

    def remedy(self, unmet: list[Need]) -> list[str]:
        """Return lines that say who can meet the remaining needs, and with which SQL."""
        if not unmet:
            return []
        return ["The role's creator or a superuser can run:", as_sql(unmet)]
