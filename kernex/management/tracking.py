"""Progress of long commands: a bar on a terminal, nothing elsewhere."""

from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from kernex.backups.making import Track

WIDTH = 30


def tracker(stream: TextIO) -> Track:
    def track(things: Iterable[Any], title: str, count: int) -> Iterator[Any]:
        is_shown = stream.isatty() and count > 0
        for done, thing in enumerate(things):
            if is_shown:
                _draw(stream, title, done, count)
            yield thing
        if is_shown:
            _draw(stream, title, count, count)
            stream.write("\n")

    return track


def _draw(stream: TextIO, title: str, done: int, count: int) -> None:
    full = WIDTH * done // count
    stream.write(f"\r{title:10} {'█' * full}{'░' * (WIDTH - full)} {done}/{count}")
    stream.flush()
