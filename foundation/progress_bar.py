"""Progress bars of long commands, on terminals only."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

from foundation.formatting import size

WIDTH = 30
SHOW_EVERY_SECONDS = 0.2
Track = Callable[[Iterable[Any], str, int], Iterable[Any]]


class Bar:
    """A bar on one line, which is redrawn, and erased at the end. `total` may grow.

    With `in_bytes` it also shows the speed.
    """

    def __init__(self, screen: TextIO, title: str, total: int = 0, *, in_bytes: bool = False) -> None:
        self.screen = screen
        self.title = title
        self.total = total
        self.in_bytes = in_bytes
        self.done = 0
        self.shown_at = 0.0
        self.began_at = time.monotonic()

    def advance(self, amount: int) -> None:
        self.done += amount
        if self.screen.isatty() and time.monotonic() - self.shown_at > SHOW_EVERY_SECONDS:
            self.shown_at = time.monotonic()
            full = WIDTH * self.done // max(1, self.total)
            self.screen.write(f"\r{self.title} {'█' * full}{'░' * (WIDTH - full)} {self._amounts()}   ")
            self.screen.flush()

    def end(self) -> None:
        if self.shown_at:
            self.screen.write("\r\x1b[K")

    def _amounts(self) -> str:
        if not self.in_bytes:
            return f"{self.done} of {self.total}"
        speed = self.done / max(0.1, self.shown_at - self.began_at)
        return f"{size(self.done)} of {size(self.total)}, {size(speed)}/s"


def tracker(screen: TextIO) -> Track:
    """Return a function that shows a bar while its caller iterates over things."""

    def track(things: Iterable[Any], title: str, count: int) -> Iterator[Any]:
        bar = Bar(screen, title, count)
        for thing in things:
            yield thing
            bar.advance(1)
        bar.end()

    return track
