"""How long a call goes on being tried, and the waits between: doubled each time, with jitter."""

import random
import time
from collections.abc import Callable

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 0.5, 15.0


class Patience:
    """For one call; it ends `seconds` after this was made. `note` is told why it waits."""

    def __init__(self, seconds: float, note: Callable[[str], None]) -> None:
        self.gives_up_at = time.monotonic() + seconds
        self.note = note
        self.delay = FIRST_DELAY_SECONDS

    def wait(self, reason: str, at_least_seconds: float = 0.0) -> bool:
        """Wait before the next try. False at once when the wait would outlast it."""
        wait = max(self.delay * random.uniform(0.5, 1.0), at_least_seconds)  # noqa: S311
        if time.monotonic() + wait > self.gives_up_at:
            return False
        self.note(f"{reason}; trying again in {wait:.0f} s")
        time.sleep(wait)
        self.delay = min(self.delay * 2, LONGEST_DELAY_SECONDS)
        return True
