"""The agent's log: text or JSON lines on standard error, and the latest lines in a bounded file, without secrets."""

import json
import logging
import os
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from agent.atomic_files import open_regular, remove
from agent.config import Config

FILE = "agent.log"
# The limit of each of the two files, so that both together take at most 1 MiB.
MAX_FILE_SIZE = 512 * 1024
MAX_LINE_SIZE = 16 * 1024

# Secrets that a message of a program, a library or a server may contain: Kernex tokens, private keys, and credentials
# in headers and URLs.
_SECRETS = (
    (re.compile(r"\bkx([a-z])_[A-Za-z0-9_-]{4,}"), r"kx\1_…"),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), r"\1 …"),
    (re.compile(r"\b([a-z][a-z0-9+]{1,20}://[^\s:/@]{0,200}):[^\s/@]{1,500}@", re.IGNORECASE), r"\1:…@"),
    (re.compile(r"\b(password|secret_key|token)(\"?\s{0,4}[=:]\s{0,4}\"?)(?!%)[^\s,;)\"]+", re.IGNORECASE), r"\1\2…"),
    (re.compile(r"\b(X-Amz-(?:Signature|Credential|Security-Token))=[^&\s\"]+", re.IGNORECASE), r"\1=…"),
    (re.compile(r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----.{0,8192}?-----END [A-Z ]{0,20}PRIVATE KEY-----", re.S), "…"),
)
# Control characters, and characters that Unicode treats as line breaks or changes of direction.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROL_OR_BREAK = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SHORT_ESCAPES = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def without_secrets(text: str) -> str:
    """Return `text` with each token, password, credential and private key of a known format replaced by an ellipsis."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def sanitize(text: str) -> str:
    """Return a text, which may have several lines, without secrets and with `?` for each control character."""
    return _CONTROL.sub("?", without_secrets(text))


def one_line(text: str) -> str:
    r"""Return `text` without secrets as one line: a line break becomes `\n`, ESC becomes `\x1b`.

    A server or a program can therefore neither forge a log line nor change what a terminal shows.
    """
    return _CONTROL_OR_BREAK.sub(_escape, without_secrets(text))


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _SHORT_ESCAPES.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00Z info    message`; the lines of a traceback follow, indented and escaped."""

    def format(self, record: logging.LogRecord) -> str:
        timestamp = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        lines = [f"{timestamp} {record.levelname.lower():7} {one_line(record.getMessage())}"]
        if record.exc_info:
            lines += [f"    {one_line(line)}" for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `at`, `level`, `thread`, `message`, and `traceback` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "thread": record.threadName,
            "message": sanitize(record.getMessage()),
        }
        if record.exc_info:
            line["traceback"] = sanitize(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class AgentLogFile:
    """The agent's latest log lines in the state directory: `agent.log`, and `agent.log.1` with older lines."""

    name = "agent"

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE
        self.older = state_dir / f"{FILE}.1"

    def append(self, line: bytes) -> None:
        """Append a line, and start a new file when this one is full. Raises `OSError`."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):
            remove(self.path)  # a program put something else in its place
        with os.fdopen(os.open(self.path, flags, 0o600), "ab") as file:
            file.write(line if len(line) <= MAX_LINE_SIZE else line[: MAX_LINE_SIZE - 1] + b"\n")
            size = file.tell()
        if size > MAX_FILE_SIZE - MAX_LINE_SIZE:
            self.path.replace(self.older)

    def tail(self, size: int) -> bytes:
        """Return the newest bytes of both files, at most `size`."""
        data = b""
        for path in (self.older, self.path):
            with suppress(OSError), open_regular(path) as file:
                data += file.read(2 * MAX_FILE_SIZE)
        return data[-size:] if size > 0 else b""


class AgentLogHandler(logging.Handler):
    """Writes to the agent's log file. If the disk is full or read-only, the file misses lines."""

    def __init__(self, log_file: AgentLogFile) -> None:
        super().__init__()
        self.log_file = log_file

    def emit(self, record: logging.LogRecord) -> None:
        """Append the record. Disk errors are ignored, because reporting them would log again."""
        with suppress(OSError):
            self.log_file.append(self.format(record).encode("utf-8", "replace") + b"\n")


def start(config: Config) -> None:
    """Start to log to standard error, in the configured format and from the configured level."""
    logger = logging.getLogger("agent")
    logger.handlers = []
    logger.propagate = False
    logger.setLevel(config.log_level.upper())
    _add(logging.StreamHandler(sys.stderr), config)


def start_log_file(config: Config) -> AgentLogFile:
    """Start to write log lines to the state directory, for `send_logs`. Only the lock's holder may call this."""
    log_file = AgentLogFile(config.state_dir)
    _add(AgentLogHandler(log_file), config)
    return log_file


def _add(handler: logging.Handler, config: Config) -> None:
    handler.setFormatter(JsonFormatter() if config.log_format == "json" else TextFormatter())
    logging.getLogger("agent").addHandler(handler)
