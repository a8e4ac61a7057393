"""The time-driven task of events: deletion after `EVENT_KEEP_DAYS`."""

from django.conf import settings
from django.db import connection

from foundation.batches import BATCH_SIZE, run_in_batches
from foundation.scheduler import Task


def delete_old_events() -> int:
    """Delete events older than `EVENT_KEEP_DAYS`, through the database function `delete_old_events`."""
    return run_in_batches(_delete_batch)


def _delete_batch() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT delete_old_events(%s, %s)", [settings.EVENT_KEEP_DAYS, BATCH_SIZE])
        return int(cursor.fetchone()[0])


TASKS = [Task("delete old events", delete_old_events, every_seconds=3600)]
