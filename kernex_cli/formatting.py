"""Format times, sizes, ids and texts for people."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime

SHORT_ID_LENGTH = 8
# Control characters, and those that change the direction of text: they could control a terminal.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_UNITS = ((60, 1, "s"), (3600, 60, "min"), (2 * 86_400, 3600, "h"), (60 * 86_400, 86_400, "days"))


def clean(text: str) -> str:
    """Return `text` with a replacement character for each character that could control a terminal."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def absolute_time(moment: str) -> str:
    """Return an ISO 8601 time of the API to the second: `2026-01-02 03:04:05Z`."""
    return moment.partition(".")[0].removesuffix("Z").replace("T", " ") + "Z"


def relative_time(moment: str, now: datetime) -> str:
    """Return how long ago an ISO 8601 time was (`3 min ago`), or how far ahead it is (`in 2 h`)."""
    try:
        seconds = (now - datetime.fromisoformat(moment)).total_seconds()
    except (ValueError, TypeError):
        return absolute_time(moment)
    amount = _coarse_duration(abs(seconds))
    return f"{amount} ago" if seconds >= 0 else f"in {amount}"


def _coarse_duration(seconds: float) -> str:
    """Return seconds in the largest unit that fits: `5 min`."""
    for limit, unit_seconds, unit in _UNITS:
        if seconds < limit:
            return f"{int(seconds // unit_seconds)} {unit}"
    return f"{int(seconds // (30 * 86_400))} months"


def duration_text(seconds: int) -> str:
    """Return a duration in days, hours, minutes and seconds, without those that are zero: `1 h 30 min`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    amounts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{amount} {unit}" for amount, unit in amounts if amount) or "0 s"


def now() -> datetime:
    return datetime.now(UTC)


def short_id_length(ids: Iterable[str]) -> int:
    """Return how many characters are needed to tell these ids apart, at least 8."""
    distinct = set(ids)
    length = SHORT_ID_LENGTH
    while length < 36 and len({each[:length] for each in distinct}) < len(distinct):
        length += 1
    return length


def size_text(amount: float) -> str:
    """Return a number of bytes with its unit: `2.4 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def counted(count: int, noun: str) -> str:
    """Return `1 file`, `2 files`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def cell_text(value: object) -> str:
    """Return an API value as text for people."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell_text, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_nested_text(nested)}" for name, nested in value.items())
    return str(value)


def _nested_text(value: object) -> str:
    """Return a value of an object. A nested list or object is shown as JSON, so that its end is clear."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else cell_text(value)


def shortened(text: str, width: int) -> str:
    """Return `text` in at most `width` characters: cut between words, with `…` at the end."""
    if len(text) <= width:
        return text
    words = text[:width].rpartition(" ")[0].rstrip(" ,;:")
    return f"{words} …" if words and len(words) + 2 <= width else f"{text[: width - 1]}…"
