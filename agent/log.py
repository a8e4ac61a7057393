"""Log lines as text or JSON, on standard error. Enrolment tokens never pass."""

import json
import logging
import re
import sys
from datetime import UTC, datetime

from agent.config import Config

_SECRET = re.compile(r"kx[a-z]_[A-Za-z0-9_-]{8,}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """`text` without secrets and without characters that could forge a line or confuse a terminal."""
    return _CONTROL.sub("?", _SECRET.sub("kx*_…", text))


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{moment} {record.levelname.lower():7} {clean(super().format(record))}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "thread": record.threadName,
            "message": clean(super().format(record)),
        }
        return json.dumps(line, ensure_ascii=False)


def start(config: Config) -> None:
    """Log as configured, from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if config.log_format == "json" else _Text())
    logger = logging.getLogger("agent")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(config.log_level.upper())
