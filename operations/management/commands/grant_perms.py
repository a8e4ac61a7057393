"""Gives the application's role what Kernex needs, and shows what that is."""

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from getpass import getpass
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from foundation.environment import Environment
from operations.database.granting import dsn_of, grant, role_of
from operations.database.grants import Need, Role, as_sql, missing, needs
from operations.database.runtime_role import grant_runtime
from operations.database.tables import own_tables

# The most that PostgreSQL's max_connections takes.
MOST_CONNECTIONS = 262_143


def needed(found: list[Need]) -> list[Need]:
    """Without what Kernex cannot work."""
    return [need for need in found if not need.is_wish]


def wished(found: list[Need]) -> list[str]:
    """What would be better, a sentence each."""
    return [need.lack for need in found if need.is_wish]


def positive(text: str) -> int:
    """argparse's type for a whole number from 1."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_CONNECTIONS):
        raise ArgumentTypeError(f"{text!r} is no whole number from 1 to {MOST_CONNECTIONS}")
    return int(text)


class Command(BaseCommand):
    help = (
        "Grant the role of DATABASE_URL what Kernex needs, connected as the admin of ADMIN_DATABASE_URL. Idempotent, "
        "safe beside a running control plane. Exit code 1: something is missing, or could not be granted."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--admin-url",
            help="instead of ADMIN_DATABASE_URL, without a password: ADMIN_PASSWORD_FILE, ADMIN_PASSWORD, ~/.pgpass or "
            "the terminal gives it",
        )
        parser.add_argument(
            "--runtime-role",
            metavar="NAME",
            help="also a role for web server and scheduler, for data alone; its password: RUNTIME_PASSWORD(_FILE)",
        )
        parser.add_argument(
            "--connection-limit",
            type=positive,
            metavar="N",
            help="how many connections the role may open at once (default: all that the server has, less 2 for people)",
        )
        how = parser.add_mutually_exclusive_group()
        how.add_argument("--check", action="store_true", help="change nothing; name what is missing; 1 if anything is")
        how.add_argument("--print-sql", action="store_true", help="change nothing; print the SQL that would be run")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines for people")

    def handle(self, *args: Any, **options: Any) -> None:
        database = settings.DATABASES["default"]
        self.role, self.own = role_of(database, own_tables(), options["connection_limit"]), dsn_of(database)
        self.is_json = bool(options["json"])
        admin = self.admin(options["admin_url"])
        if options["print_sql"]:
            self.print_sql(admin or self.own)
            return
        if admin is None and not options["check"]:
            raise CommandError(
                "Who may grant? Set ADMIN_DATABASE_URL (or ADMIN_DATABASE_URL_FILE) to the address of the database's "
                "owner, such as postgresql://doadmin@HOST:PORT/DATABASE, and its password to ADMIN_PASSWORD_FILE."
            )
        try:
            with self.connect(admin) as connection:
                if options["check"]:
                    self.name_missing(connection)
                else:
                    self.grant(connection)
                if options["runtime_role"]:
                    self.grant_runtime(connection, options["runtime_role"], is_check=options["check"])
        except psycopg.Error as error:
            who = "the admin" if admin else self.role.name
            raise CommandError(f"Asking the database as {who} failed: {str(error).strip()}") from None

    def admin(self, given: str | None) -> str | None:
        """The admin's connection string, in the application's database. None if nobody named an admin."""
        env = Environment()
        url, password = given or env.text("ADMIN_DATABASE_URL"), env.text("ADMIN_PASSWORD")
        if not url:
            return None
        try:
            address = make_conninfo(url, dbname=self.role.database, **({"password": password} if password else {}))
            is_shown = bool(given) and "password" in conninfo_to_dict(url)
        except psycopg.ProgrammingError:  # its text may hold the password
            raise CommandError(
                "The admin's address is no URL: it accepts postgresql://USER@HOST:PORT/DATABASE."
            ) from None
        if is_shown:
            raise CommandError(
                "Everybody on this machine can read the password in --admin-url: leave it out. ADMIN_PASSWORD_FILE, "
                "ADMIN_PASSWORD or a terminal may give it."
            )
        return address

    def connect(self, admin: str | None) -> psycopg.Connection[Any]:
        """As the admin if there is one. A person at the terminal is asked for a password that is missing."""
        try:
            return psycopg.connect(admin or self.own, autocommit=True, connect_timeout=10)
        except psycopg.OperationalError as error:
            if admin is None or "no password supplied" not in str(error) or not sys.stdin.isatty():
                raise
        address = make_conninfo(admin, password=getpass("The admin's password: "))
        return psycopg.connect(address, autocommit=True, connect_timeout=10)

    def grant(self, connection: psycopg.Connection[Any]) -> None:
        done: list[str] = []
        left = grant(connection, self.role, done.append if self.is_json else self.stdout.write, self.own)
        left, notes = needed(left), wished(left)
        problems = [need.lack for need in left] or self.login_problem()
        if self.is_json:
            self.stdout.write(json.dumps({"done": done, "missing": problems, "notes": notes}))
        if problems:
            raise CommandError("\n".join(["Not everything could be granted:", *problems, *self.hint(left)]))
        if not self.is_json:
            self.stdout.write(f"{self.role.name} has all that Kernex needs in {self.role.database}.")

    def grant_runtime(self, admin: psycopg.Connection[Any], name: str, *, is_check: bool) -> None:
        env = Environment()
        password = env.text("RUNTIME_PASSWORD")
        role = Role(name, password, self.role.database, connection_limit=self.role.connection_limit)
        if name == self.role.name or not role.password:
            raise CommandError(
                "--runtime-role names a role other than DATABASE_URL's, and RUNTIME_PASSWORD or RUNTIME_PASSWORD_FILE"
                " its password."
            )
        done: list[str] = []
        with psycopg.connect(self.own, autocommit=True, connect_timeout=10) as owner:
            left = needed(grant_runtime(admin, owner, role, done.append, is_check=is_check))
        if not self.is_json:
            self.stdout.write("\n".join(done))
        if left:
            raise CommandError("\n".join([need.lack for need in left]))
        if not self.is_json:
            self.stdout.write(f"{name} may read and write data in {role.database}, and nothing else.")

    def name_missing(self, connection: psycopg.Connection[Any]) -> None:
        found = missing(connection, self.role)
        if found and found[0].makes_role:
            found = found[:1]  # says it all
        notes = wished(found)
        problems = [need.lack for need in needed(found)] or self.login_problem()
        if self.is_json:
            self.stdout.write(json.dumps({"missing": problems, "notes": notes}))
        if problems:
            raise CommandError("\n".join([*problems, *notes, "`python manage.py grant_perms` mends this."]))
        if not self.is_json:
            for note in notes:
                self.stdout.write(f"{note} Kernex works without that.")
            self.stdout.write(f"{self.role.name} has all that Kernex needs in {self.role.database}.")

    def print_sql(self, address: str) -> None:
        """What is missing; everything, if the database cannot be asked."""
        try:
            with psycopg.connect(address, autocommit=True, connect_timeout=10) as connection:
                found = missing(connection, self.role)
        except psycopg.OperationalError:
            self.stderr.write("The database cannot be asked what is missing; this is everything that is needed.")
            found = list(needs(self.role, "the admin", "choose a password"))
        statements = [need.statement.as_string(None) for need in found]
        self.stdout.write(json.dumps({"sql": statements}) if self.is_json else as_sql(found))

    def login_problem(self) -> list[str]:
        """A sentence if DATABASE_URL's password is wrong. The server being elsewhere for us is no problem of grants."""
        try:
            psycopg.connect(self.own, connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                return [f"{self.role.name} cannot log in: DATABASE_URL has another password than the role."]
        return []

    def hint(self, left: list[Need]) -> list[str]:
        """Who else may do what is left, and how."""
        if not left:
            return []
        return ["Whoever made the role, or a superuser, may run:", as_sql(left)]
