"""Exponential backoff with jitter, so that the devices of a fleet do not all retry at once."""

import random


class Backoff:
    """Delays that double from `first` to `limit` seconds."""

    def __init__(self, first: float, limit: float) -> None:
        self.first = first
        self.limit = limit
        self.failures = 0

    def reset(self) -> None:
        """Start again with the first delay."""
        self.failures = 0

    def next_delay(self, at_least: float = 0.0) -> float:
        """Return how many seconds to wait: the next delay with jitter, added to the time that the server requested."""
        delay = min(self.limit, self.first * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return at_least + delay * random.uniform(0.5, 1.0)  # noqa: S311
