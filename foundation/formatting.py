"""Values as text for people: sizes, ages, durations, reported values."""

import json
from collections.abc import Mapping
from datetime import datetime

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

EMPTY = "-"
SPANS = (("days", 86_400), ("h", 3600), ("min", 60))


def size(count: float) -> str:
    """Return a size in bytes as text such as `2.3 MiB`, with the same units as the command line."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float) -> str:
    """Return a duration in one or two units: `1 h 30 min`, `40 s`. A rest of less than a sixtieth is left out."""
    largest, length = _largest_unit(seconds)
    rest = seconds % length
    return largest if length == 1 or rest < length / 60 else f"{largest} {_largest_unit(rest)[0]}"


def _largest_unit(seconds: float) -> tuple[str, int]:
    """Return a duration in its largest unit, rounded down, and the length of the unit in seconds."""
    for unit, length in SPANS:
        if seconds >= length * (2 if unit == "days" else 1):
            return f"{seconds // length:.0f} {unit}", length
    return f"{max(seconds, 0):.0f} s", 1


def age(moment: datetime) -> SafeString:
    """Return how long ago something was, in its largest unit, with the exact time as a tooltip."""
    ago, _ = _largest_unit((timezone.now() - moment).total_seconds())
    exact = moment.astimezone(timezone.get_default_timezone())
    return format_html('<span title="{}">{} ago</span>', f"{exact:%Y-%m-%d %H:%M:%S %Z}", ago)


def value_list(value: Mapping[str, object]) -> str:
    """Return reported values as an HTML list, sorted by name."""
    if not value:
        return EMPTY
    lines = format_html_join(
        "", "<dt>{}</dt><dd>{}</dd>", ((name, format_value(value[name])) for name in sorted(value))
    )
    return format_html('<dl class="kx-facts">{}</dl>', lines)


def format_value(value: object) -> str:
    """Return a reported value as text: strings and integers unchanged, others as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        return json.dumps(value, ensure_ascii=False)
    return f"{value:,}".replace(",", "\u202f")  # a narrow space, as in 812 000 000
