"""Log formats: text for people and JSON for machines, both with the request's id and without secrets."""

import json
import logging
import re
import time
from typing import Any

from foundation.api.request_id import current

# Secrets that a library or a traceback may write into a line: our tokens, credentials in headers and in URLs.
_SECRETS = (
    (re.compile(r"\bkx([ae])_[A-Za-z0-9_-]{4,}"), r"kx\1_…"),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), r"\1 …"),
    (re.compile(r"\b([a-z][a-z0-9+]*://[^\s:/@]*):[^\s/@]+@", re.IGNORECASE), r"\1:…@"),
    (re.compile(r"\b(password|secret_key)(\s*[=:]\s*)(?!%)[^\s,;)]+", re.IGNORECASE), r"\1\2…"),
)
# Characters with which a value could start a new line, or change what a terminal shows.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def without_secrets(text: str) -> str:
    """Return `text` with an ellipsis in place of each token, password and credential that a pattern matches."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def escaped(text: str) -> str:
    """Return `text` with its control characters written as escapes, so that no value can forge a line."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class Text(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO kernex [request id]: message`, and the indented lines of a traceback."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name}{request}: {message}", style="{")

    def format(self, record: logging.LogRecord) -> str:
        request_id = current()
        record.request = f" [{request_id}]" if request_id else ""
        record.message = escaped(record.getMessage())
        record.asctime = self.formatTime(record)
        lines = [self.formatMessage(record)]
        if record.exc_info:
            lines += [f"  {escaped(line)}" for line in self.formatException(record.exc_info).split("\n")]
        return without_secrets("\n".join(lines))


class Json(Text):
    """One JSON object per line: `at`, `level`, `logger`, `message`, and if present `request_id` and `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        if current():
            line["request_id"] = current()
        if record.exc_info:
            line["traceback"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


FORMATTERS = {"text": Text, "json": Json}
