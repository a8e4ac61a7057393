"""The retries of one call: exponential backoff with jitter, up to a deadline."""

import random
import time
from collections.abc import Callable

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.5, 15.0


class RetryPolicy:
    """The retries of one call. Retrying stops `seconds` after this object was created.

    `note` is called with a sentence before each wait.
    """

    def __init__(self, seconds: float, note: Callable[[str], None]) -> None:
        self.deadline = time.monotonic() + seconds
        self.note = note
        self.delay = FIRST_DELAY_SECONDS

    def wait(self, reason: str, minimum_seconds: float = 0.0) -> bool:
        """Sleep before the next attempt. Return False at once if the wait would pass the deadline."""
        wait = max(self.delay * random.uniform(0.5, 1.0), minimum_seconds)  # noqa: S311
        if time.monotonic() + wait > self.deadline:
            return False
        self.note(f"{reason}; retrying in {wait:.0f} s")
        time.sleep(wait)
        self.delay = min(self.delay * 2, LONGEST_DELAY_SECONDS)
        return True
