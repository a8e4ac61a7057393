"""Log lines: one format, each with its request id, never with a secret."""

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from dev.postgres import free_port
from foundation.accounts.models import ApiToken
from foundation.api import request_id
from foundation.logs import FORMATTERS, Text, without_secrets
from tests.factories import make_user
from tests.live import Live
from tests.operations.databases import Database, manage

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ [a-z_A-Z.]+( \[[\w.-]+\])?: .*")
SECRETS = {
    "an API token": ("refused kxa_{}", "S3cret-word_of43characters"),
    "an enrolment token": ("refused {{'token': 'kxe_{}.0123'}}", "S3cret-word_of43characters"),
    "a header": ("Authorization: Bearer {}", "eyJS3cret.word"),
    "basic credentials": ("authorization: basic {}", "czNjcmV0OndvcmQ="),
    "a URL": ("connecting to postgresql://app:{}@db/x failed", "s3cret%20word"),
    "a password": ("connection failed: password={} host=db", "s3cret-word"),
    "a key": ("SECRET_KEY: {}", "s3cret-word"),
}


@pytest.fixture
def json_log() -> Iterator[io.StringIO]:
    """Capture what a separate logger writes as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(FORMATTERS["json"]())
    logger = logging.getLogger("tests.logs")
    logger.addHandler(handler)
    logger.propagate = False
    yield stream
    logger.removeHandler(handler)
    logger.propagate = True


@pytest.mark.parametrize("why", SECRETS)
def test_a_secret_is_not_written(why: str, json_log: io.StringIO) -> None:
    """This holds for the text, for arguments and for tracebacks."""
    sentence, secret = SECRETS[why]
    message = sentence.format(secret)
    logger = logging.getLogger("tests.logs")
    logger.warning(message)
    logger.warning("it said: %s", message)
    try:
        raise ValueError(message)
    except ValueError:
        logger.exception("it failed")
    lines = json_log.getvalue().splitlines()
    assert len(lines) == 3
    assert secret not in json_log.getvalue()
    assert json.loads(lines[0])["message"].split()[0] == message.split()[0] or why == "a key"
    text = FORMATTERS["text"]().format(logging.makeLogRecord({"msg": message, "exc_info": None}))
    assert secret not in text


@settings(derandomize=True, database=None, deadline=None, max_examples=200)
@given(st.text(max_size=40), st.from_regex(r"[A-Za-z0-9_-]{43}", fullmatch=True), st.text(max_size=40))
def test_tokens_are_removed_from_any_text(before: str, secret: str, after: str) -> None:
    for prefix in ("kxa_", "kxe_"):
        assert secret not in without_secrets(f"{before} {prefix}{secret} {after}")


def test_ordinary_text_is_unchanged() -> None:
    for text in (
        "password authentication failed for user app", "Bearer", "http://127.0.0.1:8000/health", "a basic idea",
        "INSERT INTO x (password) VALUES (%s)",
    ):  # fmt: skip
        assert without_secrets(text) == text


def test_json_is_one_object_per_line(json_log: io.StringIO) -> None:
    logger = logging.getLogger("tests.logs")
    with request_id.during("a-word"):
        logger.warning("two\nlines and a \u2028 separator, \x1b[31m colour")
    logger.warning("outside of a request")
    first, second = map(json.loads, json_log.getvalue().split("\n")[:2])
    assert {**first, "at": ""} == {
        "at": "", "level": "WARNING", "logger": "tests.logs", "request_id": "a-word",
        "message": "two\nlines and a \u2028 separator, \x1b[31m colour",
    }  # fmt: skip
    assert "request_id" not in second
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["at"])


def test_a_traceback_is_a_member_of_the_line(json_log: io.StringIO) -> None:
    try:
        int("no number")
    except ValueError:
        logging.getLogger("tests.logs").exception("it failed")
    (line,) = json_log.getvalue().splitlines()
    assert json.loads(line)["traceback"].startswith("Traceback (most recent call last):\n")


@pytest.mark.django_db
def test_each_response_has_its_own_request_id(client: Client) -> None:
    ids = [client.get(path)["X-Request-Id"] for path in ("/health/live", "/health/live", "/api/v1/nothing", "/nothing")]
    assert len(set(ids)) == 4
    assert all(re.fullmatch("[0-9a-f]{16}", response_id) for response_id in ids)
    assert request_id.current() == ""


@pytest.mark.django_db
def test_client_errors_are_not_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise clients that request unknown paths could fill the disk."""
    for path in ("/nothing", "/api/v1/nothing", "/api/v1/devices", "/admin/"):
        client.get(path)
    client.post("/admin/login/", {"username": "alice", "password": "s3cret"}, headers={"Host": "evil"})
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("form", FORMATTERS)
def test_every_line_of_a_process_has_the_format(form: str, newest_database: Database, tmp_path: Path) -> None:
    """This includes lines of gunicorn, and lines of a request that fails because a table is missing."""
    assert newest_database.grant().code == 0
    if form == "text":
        (tmp_path / "static").mkdir()  # without it, a library writes a warning in its own format
    environment = newest_database.environment(DATABASE_POOL="2", LOG_FORMAT=form, STATIC_ROOT=str(tmp_path / "static"))
    live = Live(tmp_path, environment, free_port())
    try:
        live.start_web()
        for path in ("/api/v1/devices", "/health"):
            headers = {"Authorization": "Bearer kxa_s3cret-word"}
            response = requests.get(live.url + path, headers=headers, timeout=30)
            assert response.status_code == 503
    finally:
        live.stop()
    lines = (tmp_path / "web.log").read_text().splitlines()
    assert len(lines) > 4
    assert "s3cret" not in "".join(lines)
    if form == "json":
        records = [json.loads(line) for line in lines]
        assert all({"at", "level", "logger", "message"} <= line.keys() for line in records)
        ids = [line["request_id"] for line in records if "request_id" in line]
        assert "py.warnings" in {line["logger"] for line in records}
    else:
        assert [line for line in lines if not LINE.fullmatch(line)] == []
        ids = [match[1] for line in lines if (match := re.search(r" \[([0-9a-f]{16})\]: ", line))]
    assert ids != []


def test_a_command_writes_no_secret(newest_database: Database) -> None:
    """This holds at the DEBUG level too, where libraries log what they send."""
    assert newest_database.grant().code == 0
    environment = newest_database.environment(LOG_LEVEL="DEBUG")
    assert manage(environment, "migrate").code == 0
    result = manage(environment, "create_operator", "alice", "--password-stdin", text="a long s3cret word\n")
    assert result.code == 0
    assert "s3cret" not in result.out + result.err
    assert newest_database.password not in result.out + result.err


@pytest.mark.django_db
def test_a_token_in_use_is_not_written(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        _, secret = ApiToken.issue(make_user(), "viewer", "a test", actor="operator:alice")
        assert client.get("/api/v1/status", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    assert secret not in caplog.text


FORGERY = "x\n2026-01-31T12:00:00.000Z INFO kernex: all is well"


@pytest.mark.parametrize("ending", ["\n", "\r", "\x0b", "\x1b[2K", "\x85", "\u2028", "\u2029", "\x9b"])
def test_a_value_cannot_start_a_line_or_send_terminal_codes(ending: str) -> None:
    record = logging.LogRecord("kernex", logging.INFO, "", 0, "name: %s", (f"a{ending}b",), None)
    line = Text().format(record)
    assert ending not in line
    assert len(line.splitlines()) == 1


def test_an_exception_cannot_forge_a_line() -> None:
    try:
        raise ValueError(FORGERY)
    except ValueError:
        record = logging.LogRecord("kernex", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    first, *others = Text().format(record).split("\n")
    assert first.endswith("ERROR kernex: failed")
    assert others
    assert all(line.startswith("  ") for line in others)
