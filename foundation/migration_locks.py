"""How a migration waits: for its turn without end, for a table's lock but briefly.

A statement that waits has a snapshot, and an index that is built beside writers waits for every older snapshot. So
whoever waits for a turn asks again and again instead of blocking: two of them would wait for each other.
"""

import time
from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

LOCK_KEY = (0x6B65726E, 2)
ASK_EVERY_SECONDS = 0.5
# Rewriting a large table takes longer than a request may. Waiting for a table's lock may not: every heartbeat would
# wait behind it.
PATIENCE = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"
IMPATIENCE = "SET lock_timeout = '3s'"
USUAL = "RESET lock_timeout; RESET statement_timeout; RESET idle_in_transaction_session_timeout"


def begin(connection: BaseDatabaseWrapper) -> None:
    """Wait until no other process migrates, and let this session take its time."""
    with connection.cursor() as cursor:
        cursor.execute(f"{PATIENCE}; {IMPATIENCE}")
        while True:
            cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", LOCK_KEY)
            if cursor.fetchone() == (True,):
                return
            time.sleep(ASK_EVERY_SECONDS)


def end(connection: BaseDatabaseWrapper) -> None:
    """Let the next one migrate."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock(%s, %s)", LOCK_KEY)
        cursor.execute(USUAL)


class AddIndexBesideWriters(AddIndexConcurrently):
    """An index on a table in use, for a migration that is not atomic. A try that was cut off is begun anew.

    It waits for all transactions that run, which holds none of them up.
    """

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        schema_editor.execute("SET lock_timeout = 0")
        # What was cut off is there, invalid, and in the way.
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema_editor.quote_name(self.index.name)}")
        super().database_forwards(app_label, schema_editor, from_state, to_state)
        schema_editor.execute(IMPATIENCE)
