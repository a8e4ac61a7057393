"""Django's migrate, safe to start twice at once, and with a sentence where a privilege is missing."""

from contextlib import suppress
from typing import Any

import psycopg
from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as Migrate
from django.db import DEFAULT_DB_ALIAS, Error, OperationalError, ProgrammingError, connections
from django.db.migrations.exceptions import MigrationSchemaMissing

from foundation import migration_locks
from operations.database.granting import dsn_of
from operations.database.grants import explanation
from operations.database.postgres_errors import ungranted

CONNECT_SECONDS = 5


class Command(Migrate):
    help = f"{Migrate.help} Two at once wait for each other."

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Around all of it: Django's checks of the models ask the database before `handle` does."""
        database = connections[options.get("database") or DEFAULT_DB_ALIAS].settings_dict
        role = str(database["USER"])
        try:
            # A pool would only say that it waited in vain; a session of its own says why.
            psycopg.connect(dsn_of(database), connect_timeout=CONNECT_SECONDS).close()
            return super().execute(*args, **options)
        except (OperationalError, psycopg.OperationalError, MigrationSchemaMissing) as error:
            # The second wraps the refusal to create Django's own table.
            if denied := ungranted(error):
                raise CommandError(explanation(role, denied)) from None
            if isinstance(error, MigrationSchemaMissing):
                raise
            if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                raise CommandError(
                    "A table that has to change is in use. What was migrated so far stays; run migrate again."
                ) from None
            raise CommandError(f"The database cannot be reached: {str(error).strip()}") from error
        except ProgrammingError as error:
            if not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
                raise
            raise CommandError(explanation(role, str(error.__cause__.diag.message_primary))) from None

    def handle(self, *args: Any, **options: Any) -> str | None:
        """Migrate while no other does."""
        connection = connections[options.get("database") or DEFAULT_DB_ALIAS]
        try:
            migration_locks.begin(connection)
            return super().handle(*args, **options)
        finally:
            with suppress(Error):
                migration_locks.end(connection)
