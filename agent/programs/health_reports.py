"""The health that a release reports about itself, in a health file or in the response to an HTTP request."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.atomic_files import read_limited

MAX_FILE_SIZE = 64 * 1024
MAX_MESSAGE_LENGTH = 1000
MAX_VERDICT_SIZE = 4096
MAX_DEPTH = 16
# The magnitudes of numbers other than 0 that the server accepts.
MIN_NUMBER, MAX_NUMBER = 1e-30, 2**53


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The health that a release reports. `verdict` contains the program's own data, small enough to be reported."""

    is_healthy: bool
    message: str = ""
    verdict: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        verdict = json.dumps(self.verdict, ensure_ascii=False) if self.verdict else ""
        return "\n".join(part for part in (self.message, verdict) if part)


def read_file(path: Path) -> HealthReport | None:
    """Return the contents of a health file; None if it does not exist or is not completely written."""
    try:
        value = json.loads(read_limited(path, MAX_FILE_SIZE))
        is_healthy = value["healthy"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return with_details(is_healthy, value) if isinstance(is_healthy, bool) else None


def read_body(is_healthy: bool, body: bytes) -> HealthReport:
    """Return the report of a program that responded to an HTTP request. A body that is not JSON is ignored."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    return with_details(is_healthy, value if isinstance(value, dict) else {})


def with_details(is_healthy: bool, value: Mapping[str, object]) -> HealthReport:
    """Return a report with the fields `message` and `verdict` of a JSON object, if they are valid."""
    message = value.get("message")
    text = message[:MAX_MESSAGE_LENGTH] if isinstance(message, str) else ""
    return HealthReport(is_healthy, text, _portable(value.get("verdict")))


def _portable(verdict: object) -> Mapping[str, object]:
    """Return the verdict if every JSON reader accepts it and it is small enough, otherwise an empty one."""
    if not isinstance(verdict, dict) or not _is_plain(verdict, 1):
        return {}
    # The size is computed as on the server. It differs from the size in the heartbeat's JSON.
    return verdict if len(json.dumps(verdict)) <= MAX_VERDICT_SIZE else {}


def _is_plain(value: object, depth: int) -> bool:
    if depth > MAX_DEPTH:
        return False
    if isinstance(value, str):
        return "\x00" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, int | float):
        # The comparisons also refuse NaN, and integers that are too large for a float.
        return value == 0 or MIN_NUMBER <= abs(value) <= MAX_NUMBER
    if isinstance(value, list):
        return all(_is_plain(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(key, depth) and _is_plain(item, depth + 1) for key, item in value.items())
    return value is None
