"""Batches of scheduler work that grows with the fleet."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from django.db import transaction

T = TypeVar("T")
BATCH_SIZE = 1000
RUN_SECONDS = 5.0


def run_in_batches(work: Callable[[], int], *, size: int = BATCH_SIZE, seconds: float = RUN_SECONDS) -> int:
    """Call `work` repeatedly, each time in a transaction, until a batch is not full or time is up.

    `work` handles up to `size` rows and returns how many; it locks them with SKIP LOCKED, so that two schedulers share
    them. Time is limited so that the scheduler's other tasks run as well. Returns how many rows were handled.
    """
    ends_at = time.monotonic() + seconds
    handled = 0
    while True:
        with transaction.atomic():
            count = work()
        handled += count
        if count < size or time.monotonic() > ends_at:
            return handled


def time_boxed(items: Iterable[T], seconds: float = RUN_SECONDS) -> Iterator[T]:
    """Yield items until time is up, and at least one. For work that must not run inside a transaction."""
    ends_at = time.monotonic() + seconds
    for item in items:
        yield item
        if time.monotonic() > ends_at:
            return
