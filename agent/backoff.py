"""Pauses between tries: they grow, and are spread, so that a fleet does not come back all at once."""

import random

FIRST_SECONDS = 1.0


class Backoff:
    """Grows by doubling up to `most` seconds; each pause is a random part of that ("full jitter", at least a tenth)."""

    def __init__(self, most: float) -> None:
        self.most = most
        self.ceiling = FIRST_SECONDS

    def next(self, asked: float | None = None) -> float:
        """The next pause in seconds; never shorter than what the server `asked` for."""
        pause = self.ceiling * random.uniform(0.1, 1.0)  # noqa: S311 - only spreads load
        self.ceiling = min(self.ceiling * 2, self.most)
        return pause if asked is None else asked + pause

    def reset(self) -> None:
        self.ceiling = FIRST_SECONDS
