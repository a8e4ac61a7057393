"""The time-driven tasks of rate limits."""

from foundation.batches import BATCH_SIZE, run_in_batches
from foundation.rate_limits.models import delete_unused
from foundation.scheduler import Task


def delete_unused_limits() -> int:
    """Delete the rows of keys that are no longer limited."""
    return run_in_batches(lambda: delete_unused(BATCH_SIZE))


TASKS = [Task("delete unused rate limits", delete_unused_limits, every_seconds=60)]
