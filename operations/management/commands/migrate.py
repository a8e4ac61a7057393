"""Django's migrate with a lock against concurrent runs, and with a clear error if a privilege is missing."""

import time
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
# What PostgreSQL raises if another session uses the table, or if both would wait for each other.
IN_USE = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
TRIES = 5
PAUSE_SECONDS = 1


class Command(Migrate):
    help = f"{Migrate.help} Concurrent runs wait for each other."

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command, and turn database errors into sentences.

        This wraps `execute`, because Django's model checks query the database before `handle` runs.
        """
        database = connections[options.get("database") or DEFAULT_DB_ALIAS].settings_dict
        role = str(database["USER"])
        try:
            # The pool would only report a timeout. A connection outside the pool reports the reason.
            psycopg.connect(dsn_of(database), connect_timeout=CONNECT_SECONDS).close()
            return super().execute(*args, **options)
        except (OperationalError, psycopg.OperationalError, MigrationSchemaMissing) as error:
            # MigrationSchemaMissing wraps the error from creating the table django_migrations.
            if denied := ungranted(error):
                raise CommandError(explanation(role, denied)) from None
            if isinstance(error, MigrationSchemaMissing):
                raise
            if isinstance(error.__cause__, IN_USE):
                raise CommandError(
                    "A table that a migration changes is in use. Migrations that ran stay applied; run migrate again."
                ) from None
            raise CommandError(f"The database cannot be reached: {str(error).strip()}") from error
        except ProgrammingError as error:
            if not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
                raise
            raise CommandError(explanation(role, str(error.__cause__.diag.message_primary))) from None

    def handle(self, *args: Any, **options: Any) -> str | None:
        """Migrate while holding the lock. If a table is in use, try again: migrations that ran stay applied."""
        for _ in range(TRIES - 1):
            try:
                return self._migrate(*args, **options)
            except OperationalError as error:
                if not isinstance(error.__cause__, IN_USE):
                    raise
            self.stderr.write("A table that a migration changes is in use; trying again.")
            # Django leaves the session in the failed transaction.
            alias = options.get("database") or DEFAULT_DB_ALIAS
            connections[alias].close()
            del connections[alias]
            time.sleep(PAUSE_SECONDS)
        return self._migrate(*args, **options)

    def _migrate(self, *args: Any, **options: Any) -> str | None:
        connection = connections[options.get("database") or DEFAULT_DB_ALIAS]
        try:
            migration_locks.begin(connection)
            return super().handle(*args, **options)
        finally:
            with suppress(Error):
                migration_locks.end(connection)
