"""How log lines look: text for people or JSON for machines, each with its request's id and without secrets."""

import json
import logging
import re
import time
from typing import Any

from foundation.api.request_id import current

# What a library or a traceback may carry into a line: our tokens, credentials in headers and in URLs.
_SECRETS = (
    (re.compile(r"\bkx([ae])_[A-Za-z0-9_-]{4,}"), r"kx\1_…"),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), r"\1 …"),
    (re.compile(r"\b([a-z][a-z0-9+]*://[^\s:/@]*):[^\s/@]+@", re.IGNORECASE), r"\1:…@"),
    (re.compile(r"\b(password|secret_key)(\s*[=:]\s*)(?!%)[^\s,;)]+", re.IGNORECASE), r"\1\2…"),
)


def without_secrets(text: str) -> str:
    """`text` with an ellipsis in place of each token, password and credential that can be told by its form."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class Text(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO kernex [request id]: message`"""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name}{request}: {message}", style="{")

    def format(self, record: logging.LogRecord) -> str:
        request_id = current()
        record.request = f" [{request_id}]" if request_id else ""
        return without_secrets(super().format(record))


class Json(Text):
    """One object a line: `at`, `level`, `logger`, `message`, and `request_id` and `traceback` where there are any."""

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
