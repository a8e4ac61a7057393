"""Waiting between tries, so that a fleet does not come back all at once."""

import random


class Backoff:
    """Waits that double from `first` to `limit` seconds, each with jitter."""

    def __init__(self, first: float, limit: float) -> None:
        self.first = first
        self.limit = limit
        self.failures = 0

    def success(self) -> None:
        self.failures = 0

    def failure(self, at_least: float = 0.0) -> float:
        """How many seconds to wait now; at least what the server asked for, and then with jitter on top."""
        delay = min(self.limit, self.first * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return at_least + delay * random.uniform(0.5, 1.0)  # noqa: S311
