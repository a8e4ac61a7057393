"""`device`, `events` and `logs` against a fake server."""

from pathlib import Path
from typing import Any

import pytest

from tests.kernex_cli.conftest import Kernex
from tests.kernex_cli.fake_server import FakeServer, error
from tests.kernex_cli.test_lookup import page
from tests.kernex_cli.test_screen import lines, on_terminal

ID = "6f0c6a5e-9a53-4a6e-9d5c-0d1f3f0f9b7e"
REQUEST = "5b1f0f0e-3c1b-4b0c-8f57-2f1f6b6f3a11"
DEVICE: dict[str, Any] = {
    "id": ID, "name": "shelf-4", "state": "accepted", "online": True, "group": "lab", "tags": ["north"],
    "device_type": "edge", "status": "idle", "last_heartbeat_at": "2026-01-02T03:04:05.678901Z",
    "attributes": {"board": "r5"}, "hardware": {"memory": 1024},
    "running_bundles": {
        "vad": {
            "version": "1.0.0", "healthy": False, "message": "3 of 5 segments",
            "verdict": {"segments": [[0.5, 2]], "ok": True},
        },
    },
}  # fmt: skip
DEPLOYMENT = {
    "deployment": REQUEST, "bundle": "vad@1.0.0", "state": "rolled_back", "reason_code": "unhealthy",
    "message": "first\nlast line", "state_changed_at": "2026-01-02T03:04:05.6Z",
}  # fmt: skip
COMMAND = {
    "id": 7, "kind": "send_logs", "state": "ended", "outcome": "unknown_command", "outcome_message": "too old",
    "created_at": "2026-01-02T03:04:05.6Z",
}  # fmt: skip


@pytest.fixture
def shelf(fake: FakeServer) -> FakeServer:
    """The fake server with one device."""
    fake.responses["GET /devices"] = page(DEVICE)
    fake.responses[f"GET /devices/{ID}"] = DEVICE
    fake.responses[f"GET /devices/{ID}/deployments"] = page(DEPLOYMENT)
    fake.responses[f"GET /devices/{ID}/commands"] = page(COMMAND)
    return fake


def test_it_shows_everything_about_a_device(at_fake: Kernex, shelf: FakeServer) -> None:
    output = at_fake("device", "shelf-4").out
    for line in (
        "liveness\tonline", "tags\tnorth", "last heartbeat\t2026-01-02 03:04:05Z", "board\tr5", "memory\t1024",
        "vad@1.0.0\tunhealthy\t3 of 5 segments\tsegments [[0.5, 2]], ok yes",
        f"vad@1.0.0\t{REQUEST}\trolled_back\t2026-01-02 03:04:05Z\tunhealthy\tlast line",
        "send_logs\tended\tunknown_command\t2026-01-02 03:04:05Z\ttoo old",
    ):  # fmt: skip
        assert line in output.splitlines()


def test_a_device_fits_a_narrow_terminal(shelf: FakeServer) -> None:
    printed = lines(on_terminal(shelf, "device", "6f0c6a5e", COLUMNS="80", NO_COLOR="1", TERM="dumb"))
    assert [line for line in printed if len(line) > 80] == []
    assert any(line.startswith("vad@1.0.0  5b1f0f0e    rolled back") for line in printed)


def test_a_device_is_one_document(at_fake: Kernex, shelf: FakeServer) -> None:
    document = at_fake("device", "shelf-4", "--json").document
    assert document == {**DEVICE, "deployments": [DEPLOYMENT], "commands": [COMMAND]}


def test_it_lists_events(at_fake: Kernex, shelf: FakeServer) -> None:
    event = {
        "at": "2026-01-02T03:04:05.6Z", "kind": "device.approved", "actor": "operator:alice", "message": "Approved.",
        "device_id": ID, "deployment_id": None,
    }  # fmt: skip
    shelf.responses["GET /events"] = page(event)
    shelf.responses["GET /deployments"] = page({"id": REQUEST})
    arguments = ("--device", "shelf-4", "--deployment", "5b1f0f0e", "--kind", "device.approved", "--limit", "5")
    outcome = at_fake("events", *arguments)
    assert outcome.out.splitlines()[1:] == [f"2026-01-02 03:04:05Z\tdevice.approved\toperator:alice\t{ID}\t\tApproved."]
    assert shelf.requests[-1].endswith(f"?device={ID}&deployment={REQUEST}&kind=device.approved&page_size=5")
    assert at_fake("events", "--json").document["results"] == [event]


def log_request(state: str, **fields: Any) -> dict[str, Any]:
    return {"id": REQUEST, "device_id": ID, "state": state, "reason": "", "size": 0, "batches": 0, **fields}


TEXT = "==> agent <==\n\tstarted\n"


def test_it_prints_logs(at_fake: Kernex, shelf: FakeServer) -> None:
    shelf.responses[f"POST /devices/{ID}/logs"] = log_request("requested")
    shelf.responses[f"GET /log-requests/{REQUEST}"] = [log_request("collecting", batches=1), log_request("complete")]
    shelf.fail(f"GET /api/v1/log-requests/{REQUEST}/text", (200, TEXT.encode()))
    outcome = at_fake("logs", "shelf-4", "--max-size", "64K")
    assert (outcome.code, outcome.out) == (0, TEXT)
    assert b'{"max_size": 65536}' in shelf.bodies


def test_it_writes_logs_to_a_file(at_fake: Kernex, shelf: FakeServer, tmp_path: Path) -> None:
    shelf.responses[f"POST /devices/{ID}/logs"] = log_request("requested")
    shelf.responses[f"GET /log-requests/{REQUEST}"] = log_request("complete", size=24)
    shelf.fail(f"GET /api/v1/log-requests/{REQUEST}/text", *[(200, TEXT.encode())] * 3)
    outcome = at_fake("logs", "shelf-4", "--output", tmp_path / "log")
    assert (outcome.code, outcome.out) == (0, f"24 B written to {tmp_path / 'log'}.\n")
    assert (tmp_path / "log").read_text() == TEXT
    assert at_fake("logs", "shelf-4", "--output", tmp_path / "missing" / "log").code == 7
    assert at_fake("logs", "shelf-4", "--json").document["text"] == TEXT


def test_it_does_not_wait_for_logs(at_fake: Kernex, shelf: FakeServer) -> None:
    shelf.responses[f"POST /devices/{ID}/logs"] = log_request("requested")
    assert at_fake("logs", "shelf-4", "--no-wait", "--json").document["state"] == "requested"
    assert shelf.bodies[-1] == b"{}"


def test_it_stops_waiting_for_logs_in_time(at_fake: Kernex, shelf: FakeServer) -> None:
    shelf.responses[f"POST /devices/{ID}/logs"] = log_request("requested")
    shelf.responses[f"GET /log-requests/{REQUEST}"] = log_request("requested")
    outcome = at_fake("logs", "shelf-4", "--timeout", "0")
    assert (outcome.code, outcome.out) == (6, "")


@pytest.mark.parametrize("state", ["failed", "expired"])
def test_incomplete_logs_are_printed_and_fail(at_fake: Kernex, shelf: FakeServer, state: str) -> None:
    shelf.responses[f"POST /devices/{ID}/logs"] = log_request("requested")
    shelf.responses[f"GET /log-requests/{REQUEST}"] = log_request(state, reason="unknown_command")
    shelf.fail(f"GET /api/v1/log-requests/{REQUEST}/text", (200, TEXT.encode()))
    outcome = at_fake("logs", "shelf-4")
    assert (outcome.code, outcome.out) == (6, TEXT)
    assert f"{state} (unknown_command)" in outcome.err


def test_a_role_that_may_not_fetch_logs_is_refused(at_fake: Kernex, shelf: FakeServer) -> None:
    shelf.fail(f"POST /api/v1/devices/{ID}/logs", error(403, "role_forbids", "The role is viewer."))
    assert at_fake("logs", "shelf-4").code == 3


def test_logs_cannot_control_a_terminal(shelf: FakeServer) -> None:
    shelf.responses[f"POST /devices/{ID}/logs"] = log_request("requested")
    shelf.responses[f"GET /log-requests/{REQUEST}"] = log_request("complete")
    shelf.fail(f"GET /api/v1/log-requests/{REQUEST}/text", (200, b"a\x1b]0;owned\x07\n\tb\n"))
    assert "\x1b]0;" not in on_terminal(shelf, "logs", "shelf-4")
