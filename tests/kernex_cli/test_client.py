"""Tests of retries, of errors that are reported immediately, and of hosts that must never get the token."""

import time
from pathlib import Path

import pytest

from tests.kernex_cli.conftest import Kernex
from tests.kernex_cli.fake_server import CUT, FakeServer, error, serve

STATUS = {"devices": {"online": 3}, "deployments": {}, "bundles": {}, "version": "0.1.0"}
LATER = (503, {"error": {"code": "busy", "message": "Busy."}}, {"Retry-After": "1"})


@pytest.mark.parametrize("response", [CUT, (502, b""), (504, b"<html>"), error(503, "busy", "Busy.")])
def test_temporary_failures_are_retried(at_fake: Kernex, fake: FakeServer, response: tuple[int, object]) -> None:
    fake.responses["GET /status"] = STATUS
    fake.fail("GET /api/v1/status", response)
    assert at_fake("status", "--json").document == STATUS
    assert len(fake.requests) == 2


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(at_fake: Kernex, fake: FakeServer, status: int) -> None:
    fake.responses["GET /status"] = STATUS
    fake.fail("GET", (status, {}, {"Retry-After": "1"}))
    started_at = time.monotonic()
    assert at_fake("status").code == 0
    assert time.monotonic() - started_at >= 1


def test_a_retry_after_beyond_the_deadline_ends_the_command(at_fake: Kernex, fake: FakeServer) -> None:
    fake.fail("GET", (503, {"error": {"code": "busy", "message": "Busy."}}, {"Retry-After": "90"}))
    started_at = time.monotonic()
    outcome = at_fake("status")
    assert (outcome.code, outcome.out) == (5, "")
    assert "Busy (busy)" in outcome.err
    assert time.monotonic() - started_at < 5


def test_an_unreachable_server_is_reported(kernex: Kernex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNEX_TOKEN", "kxa_x")
    outcome = kernex("status", "--server", "http://127.0.0.1:9", "--retry-for", "1s", "--json")
    assert (outcome.code, outcome.out) == (5, "")
    assert "Connection refused" in outcome.err


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (error(401, "bad_token", "The token is unknown."), 3),
        (error(403, "role_forbids", "The role does not allow that."), 3),
        (error(404, "not_found", "Nothing there."), 4),
        (error(409, "illegal_transition", "It has ended."), 4),
        ((404, b"<html>not Kernex</html>"), 4),
        (error(500, "internal_error", "Something broke."), 5),
        (error(507, "storage_full", "The disk is full."), 5),
        ((200, b"<html>hello</html>"), 5),
        ((301, b"", {"Location": "https://elsewhere.example/"}), 5),
    ],
)
def test_permanent_failures_are_not_retried(
    at_fake: Kernex, fake: FakeServer, response: tuple[int, object], code: int
) -> None:
    fake.fail("GET", response)
    outcome = at_fake("status", "--json")
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err.startswith("kernex: ")
    assert len(fake.requests) == 1


def test_refused_fields_are_named(at_fake: Kernex, fake: FakeServer) -> None:
    details = {"code": "invalid", "message": "Some fields are wrong.", "fields": {"group": ["No such group."]}}
    fake.fail("POST", (400, {"error": details}))
    assert "`group`: No such group." in at_fake("token", "create", "--group", "x").err


def test_a_deployment_that_may_have_started_is_not_repeated(at_fake: Kernex, fake: FakeServer) -> None:
    fake.fail("POST", CUT)
    outcome = at_fake("deploy", "vad@1", "--group", "lab")
    assert outcome.code == 5
    assert "not known" in outcome.err
    assert len(fake.requests) == 1


def test_a_deployment_that_did_not_start_is_retried(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["POST /deployments"] = {"id": "7", "bundle": "vad@1", "state": "running", "counts": {}}
    fake.fail("POST", LATER)
    assert at_fake("deploy", "vad@1", "--group", "lab").code == 0
    assert len(fake.requests) == 2


def test_a_next_link_does_not_send_the_token_to_another_host(at_fake: Kernex, fake: FakeServer) -> None:
    with serve() as other:
        fake.responses["GET /groups"] = [
            {"next": f"{other.url}/api/v1/groups?cursor=abc", "results": [{"name": "a"}]},
            {"next": None, "results": [{"name": "b"}]},
        ]
        outcome = at_fake("groups", "--json")
        assert [group["name"] for group in outcome.document["results"]] == ["a", "b"]
        assert other.requests == []
        assert "cursor=abc" in fake.requests[1]


def test_a_redirect_does_not_send_the_token_to_another_host(at_fake: Kernex, fake: FakeServer) -> None:
    with serve() as other:
        fake.fail("GET", (302, b"", {"Location": f"{other.url}/api/v1/status"}))
        assert at_fake("status").code == 5
        assert other.requests == []


def test_netrc_does_not_replace_the_token(
    at_fake: Kernex, fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", fake.url)
    fake.responses["GET /status"] = STATUS
    assert at_fake("status", "--server", "http://fleet.example").code == 0
    assert fake.requests == ["GET http://fleet.example/api/v1/status"]


def test_requests_to_this_machine_use_no_proxy(
    at_fake: Kernex, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    fake.responses["GET /status"] = STATUS
    assert at_fake("status").code == 0
