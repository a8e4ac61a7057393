"""Gives the application's role what Kernex needs, and shows what that is."""

import json
from argparse import ArgumentParser
from typing import Any

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from psycopg.conninfo import make_conninfo

from kernex.environment import Environment
from kernex.grants import Gap, Role, exists, gaps, make_role


class Command(BaseCommand):
    help = (
        "Grant the role of DATABASE_URL what Kernex needs, connected as the admin of ADMIN_DATABASE_URL. Idempotent. "
        "Exit code 1: something is missing (with --check) or could not be granted."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--admin-url", help="instead of ADMIN_DATABASE_URL; leave the password to ADMIN_PASSWORD(_FILE)"
        )
        parser.add_argument(
            "--check", action="store_true", help="change nothing; name what is missing; 1 if anything is"
        )
        parser.add_argument("--print-sql", action="store_true", help="change nothing; print the SQL that would be run")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of sentences")

    def handle(self, *args: Any, **options: Any) -> None:
        default = settings.DATABASES["default"]
        role = Role(str(default["USER"]), str(default["PASSWORD"]), str(default["NAME"]))
        try:
            with psycopg.connect(self.admin(options, default), autocommit=True, connect_timeout=10) as connection:
                self.work(connection, role, options)
        except psycopg.OperationalError as error:
            raise CommandError(f"The database cannot be reached as the admin: {str(error).strip()}") from None

    def admin(self, options: dict[str, Any], default: dict[str, Any]) -> str:
        """The admin's connection string. With --check, the application's own will do."""
        env = Environment()
        url = options["admin_url"] or env.text("ADMIN_DATABASE_URL")
        if not url:
            if not options["check"]:
                raise CommandError(
                    "Set ADMIN_DATABASE_URL (or ADMIN_DATABASE_URL_FILE) to the address of the database's owner."
                )
            return make_conninfo(
                host=default["HOST"], port=default["PORT"], user=default["USER"], password=default["PASSWORD"],
                dbname=default["NAME"],
            )  # fmt: skip
        password = env.text("ADMIN_PASSWORD")
        return make_conninfo(url, dbname=default["NAME"], **({"password": password} if password else {}))

    def work(self, connection: psycopg.Connection[Any], role: Role, options: dict[str, Any]) -> None:
        if not exists(connection, role):
            missing = [make_role(role)]
            if options["check"] or options["print_sql"]:
                self.tell(connection, missing, options)
                return
            connection.execute(missing[0].statement)
            self.show(f"made the role {role.name}", options)
        missing = gaps(connection, role)
        if options["check"] or options["print_sql"]:
            self.tell(connection, missing, options)
            return
        failed = [gap for gap in missing if not self.mend(connection, gap, options)]
        if options["json"]:
            self.stdout.write(
                json.dumps({"granted": len(missing) - len(failed), "left": [gap.sentence for gap in failed]})
            )
        elif not missing:
            self.stdout.write(f"{role.name} has all that Kernex needs in {role.database}.")
        if failed:
            raise CommandError(
                "Not all could be granted. Whoever made the role may run:\n" + self.as_sql(connection, failed)
            )

    def mend(self, connection: psycopg.Connection[Any], gap: Gap, options: dict[str, Any]) -> bool:
        try:
            connection.execute(gap.statement)
        except psycopg.errors.InsufficientPrivilege as error:
            self.show(f"could not be mended ({error.diag.message_primary}): {gap.sentence}", options)
            return False
        self.show(f"mended: {gap.sentence}", options)
        return True

    def tell(self, connection: psycopg.Connection[Any], missing: list[Gap], options: dict[str, Any]) -> None:
        if options["print_sql"]:
            self.stdout.write(self.as_sql(connection, missing))
            return
        if options["json"]:
            self.stdout.write(json.dumps({"missing": [gap.sentence for gap in missing]}))
        for gap in missing if not options["json"] else []:
            self.stdout.write(gap.sentence)
        if missing:
            raise CommandError("Something is missing: run grant_perms without --check.")
        if not options["json"]:
            self.stdout.write("Nothing is missing.")

    def as_sql(self, connection: psycopg.Connection[Any], missing: list[Gap]) -> str:
        return "\n".join(f"-- {gap.sentence}\n{gap.statement.as_string(connection)};" for gap in missing)

    def show(self, line: str, options: dict[str, Any]) -> None:
        if not options["json"]:
            self.stdout.write(line)
