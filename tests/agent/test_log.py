"""Log lines: servers and programs cannot forge lines, and secrets are removed."""

import json
import logging
import sys

import pytest

from agent.log import JsonFormatter, TextFormatter, one_line, sanitize, without_secrets

KEY = "PRIVATE " + "KEY"
SECRETS = [
    "kxe_Gm5kq0YxGm5kq0Yx",
    "kxa_Gm5kq0YxGm5kq0Yx",
    "Authorization: Bearer abcdefgh12345678",
    "https://user:hunter2hunter2@proxy.example.com/",
    "password=hunter2hunter2",
    '"token": "hunter2hunter2"',
    "https://s3.example.com/x?X-Amz-Signature=hunter2hunter2&X-Amz-Credential=hunter2hunter2",
    f"-----BEGIN {KEY}-----\nhunter2hunter2\n-----END {KEY}-----",
]


def record(message: str, *, with_traceback: bool = False) -> logging.LogRecord:
    exc_info = None
    if with_traceback:
        try:
            raise ValueError("forged\n2026-01-01T00:00:00Z info    all is well")
        except ValueError:
            exc_info = sys.exc_info()
    return logging.LogRecord("agent", logging.ERROR, "", 0, "%s", (message,), exc_info)


@pytest.mark.parametrize("separator", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_a_message_is_one_line(separator: str) -> None:
    line = TextFormatter().format(record(f"refused{separator}2026-01-01T00:00:00Z info    forged"))
    assert len(line.splitlines()) == 1
    assert json.loads(JsonFormatter().format(record(f"a{separator}b")))["message"].startswith("a")
    assert len(JsonFormatter().format(record(f"a{separator}b")).split("\n")) == 1


def test_terminal_codes_and_changes_of_direction_are_escaped() -> None:
    assert one_line("\x1b[2J\x00\u202etxt\t") == r"\x1b[2J\x00\u202etxt\t"


def test_a_traceback_cannot_forge_a_line() -> None:
    lines = TextFormatter().format(record("failed", with_traceback=True)).splitlines()
    assert len(lines) > 2
    assert all(line.startswith("    ") for line in lines[1:])
    assert "forged" in json.loads(JsonFormatter().format(record("failed", with_traceback=True)))["traceback"]


@pytest.mark.parametrize("text", SECRETS, ids=[text[:12] for text in SECRETS])
def test_secrets_of_a_known_format_are_removed(text: str) -> None:
    for cleaned in (without_secrets(text), sanitize(text), one_line(text)):
        assert "Gm5kq0Yx" not in cleaned
        assert "hunter2hunter2" not in cleaned
        assert "abcdefgh12345678" not in cleaned


def test_a_text_keeps_its_line_breaks() -> None:
    assert sanitize("one\n\ttwo\x1b[0m\n") == "one\n\ttwo?[0m\n"
