"""Locks of migrations: wait without limit for another migration, but only briefly for a table's lock.

A blocked statement has a snapshot, and building an index concurrently waits for every older snapshot. So a process that
waits for another migration polls instead of blocking: otherwise the two would wait for each other.
"""

import time
from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

LOCK_KEY = (0x6B65726E, 2)
POLL_SECONDS = 0.5
# Rewriting a large table may take long. Waiting for a table's lock must be short, because all heartbeats queue behind
# the wait.
NO_TIMEOUTS = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"
SHORT_LOCK_TIMEOUT = "SET lock_timeout = '3s'"
RESET_TIMEOUTS = "RESET lock_timeout; RESET statement_timeout; RESET idle_in_transaction_session_timeout"


def begin(connection: BaseDatabaseWrapper) -> None:
    """Wait until no other process migrates, and lift the timeouts of this session."""
    with connection.cursor() as cursor:
        cursor.execute(f"{NO_TIMEOUTS}; {SHORT_LOCK_TIMEOUT}")
        while True:
            cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", LOCK_KEY)
            if cursor.fetchone() == (True,):
                return
            time.sleep(POLL_SECONDS)


def end(connection: BaseDatabaseWrapper) -> None:
    """Release the lock, and restore the timeouts."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock(%s, %s)", LOCK_KEY)
        cursor.execute(RESET_TIMEOUTS)


class AddIndexBesideWriters(AddIndexConcurrently):
    """Create an index concurrently, in a migration that is not atomic. An interrupted attempt is started from scratch.

    It waits for all running transactions, without blocking any of them.
    """

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        schema_editor.execute("SET lock_timeout = 0")
        # An interrupted attempt leaves an invalid index of this name.
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema_editor.quote_name(self.index.name)}")
        super().database_forwards(app_label, schema_editor, from_state, to_state)
        schema_editor.execute(SHORT_LOCK_TIMEOUT)
