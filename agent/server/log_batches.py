"""Batches of logs: the newest bytes of each source, without secrets, split into parts that fit into a request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.log import sanitize

MAX_BATCH_SIZE = 64 * 1024
# More bytes are read than sent, so that a secret at the beginning of the sent part is still recognised.
MARGIN = 64 * 1024


class LogSource(Protocol):
    """A log to collect, such as `agent`, `program:PRODUCT` or `failed:PRODUCT@VERSION`."""

    @property
    def name(self) -> str: ...

    def tail(self, size: int) -> bytes:
        """Return the newest bytes, at most `size`."""


@dataclass(frozen=True, slots=True)
class LogBatch:
    """A part of one source: at most 64 KiB of UTF-8 without NUL."""

    source: str
    text: str


def collect(sources: Sequence[LogSource], max_size: int) -> list[LogBatch]:
    """Return the logs of all sources in order, with at most `max_size` bytes in total.

    If the logs are larger, small logs are complete and large logs share the remaining size, each with its newest
    bytes. The result has at least one batch.
    """
    texts = {source.name: _clean_tail(source, max_size) for source in sources}
    shares = _shares({name: len(text) for name, text in texts.items()}, max_size)
    batches: list[LogBatch] = []
    for name, text in texts.items():
        batches += [LogBatch(name, part) for part in _parts(_newest(text, shares[name]))]
    return batches or [LogBatch("agent", "")]


def _clean_tail(source: LogSource, max_size: int) -> bytes:
    """Return the end of a log as UTF-8, without secrets and without a truncated first line."""
    data = source.tail(max_size + MARGIN)
    if len(data) >= max_size + MARGIN and b"\n" in data:
        data = data[data.index(b"\n") + 1 :]
    return sanitize(data.decode("utf-8", "replace")).encode("utf-8")


def _shares(sizes: dict[str, int], total: int) -> dict[str, int]:
    """Divide `total` bytes equally. The larger sources share the bytes that a small source does not need."""
    shares: dict[str, int] = {}
    for count, name in zip(range(len(sizes), 0, -1), sorted(sizes, key=lambda name: sizes[name]), strict=True):
        shares[name] = min(sizes[name], total // count)
        total -= shares[name]
    return shares


def _newest(data: bytes, size: int) -> bytes:
    begin = len(data) - size
    while begin < len(data) and _is_within_character(data, begin):
        begin += 1
    return data[begin:]


def _parts(data: bytes) -> list[str]:
    """Split the bytes at line ends if possible, and never within a character."""
    parts: list[str] = []
    begin = 0
    while begin < len(data):
        end = min(len(data), begin + MAX_BATCH_SIZE)
        if end < len(data):
            line_end = data.rfind(b"\n", begin + MAX_BATCH_SIZE // 2, end) + 1
            end = line_end or end
            while _is_within_character(data, end):
                end -= 1
        parts.append(data[begin:end].decode("utf-8"))
        begin = end
    return parts


def _is_within_character(data: bytes, position: int) -> bool:
    return position < len(data) and data[position] & 0xC0 == 0x80
