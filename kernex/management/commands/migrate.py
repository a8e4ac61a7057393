"""Django's migrate, safe to start twice at once, and with a sentence where a privilege is missing."""

import re
from typing import Any

import psycopg
from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as Migrate
from django.db import DEFAULT_DB_ALIAS, OperationalError, ProgrammingError, connections
from django.db.migrations.exceptions import MigrationSchemaMissing

from kernex.grants import explanation

LOCK_KEY = (0x6B65726E, 2)
# Waiting for another migration and rewriting a large table both take longer than a request may.
WITHOUT_TIMEOUTS = "SET lock_timeout = 0; SET statement_timeout = 0"


class Command(Migrate):
    help = f"{Migrate.help} Two at once wait for each other."

    def handle(self, *args: Any, **options: Any) -> str | None:
        connection = connections[options.get("database") or DEFAULT_DB_ALIAS]
        try:
            with connection.cursor() as cursor:
                cursor.execute(WITHOUT_TIMEOUTS)
                cursor.execute("SELECT pg_advisory_lock(%s, %s)", LOCK_KEY)
            try:
                return super().handle(*args, **options)
            finally:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_unlock(%s, %s)", LOCK_KEY)
        except OperationalError as error:
            raise CommandError(f"The database cannot be reached: {str(error).strip()}") from error
        except ProgrammingError as error:
            if not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
                raise
            role = str(connection.settings_dict["USER"])
            raise CommandError(explanation(role, str(error.__cause__.diag.message_primary))) from None
        except MigrationSchemaMissing as error:
            # Wraps the refusal to create Django's own table.
            denied = re.search("permission denied for [a-z]+ [^\\s)]+", str(error))
            if denied is None:
                raise
            raise CommandError(explanation(str(connection.settings_dict["USER"]), denied[0])) from None
