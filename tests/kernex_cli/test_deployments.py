"""`deploy`, `deployments`, `deployment` and `cancel` against a fake server."""

from typing import Any

import pytest

from tests.kernex_cli.conftest import Kernex
from tests.kernex_cli.fake_server import FakeServer, error

ID = "5b1f0f0e-3c1b-4b0c-8f57-2f1f6b6f3a11"
DEVICE = "6f0c6a5e-9a53-4a6e-9d5c-0d1f3f0f9b7e"
NO_ROWS: dict[str, Any] = {"next": None, "results": []}


def deployment(state: str = "running", **counts: int) -> dict[str, Any]:
    """Return a deployment. It has finished unless a device has not finished."""
    unfinished = counts.keys() & {"waiting", "offered", "downloading", "cancelling"}
    finished_at = None if unfinished or state in {"planning", "running"} else "2026-01-02T03:05:05.6Z"
    return {
        "id": ID, "bundle": "vad@1.0.0", "state": state, "counts": counts, "created_at": "2026-01-02T03:04:05.6Z",
        "finished_at": finished_at,
    }  # fmt: skip


def row(state: str, message: str = "") -> dict[str, Any]:
    return {
        "device": DEVICE, "device_name": "shelf-4", "state": state, "attempt": 1, "reason_code": "unhealthy",
        "message": message, "bytes_done": 50, "bytes_total": 100, "state_changed_at": "2026-01-02T03:04:05.6Z",
    }  # fmt: skip


def test_the_request_names_the_devices(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["POST /deployments"] = deployment(waiting=2)
    fake.responses["GET /devices"] = {
        "next": None,
        "results": [{"id": DEVICE, "name": "shelf-4"}, {"id": "x", "name": "y"}],
    }
    arguments = ["--group", "lab", "--group", "field", "--device", "shelf-4", "--device", DEVICE.upper()]
    fake.responses["POST /deployments"]["skipped"] = {"not_accepted": 0, "wrong_device_type": 3}
    outcome = at_fake("deploy", "vad@1.0.0", *arguments, "--deadline", "2h", "--note", "why", "--json")
    assert outcome.document["id"] == ID
    assert outcome.err == "3 devices left out: wrong device type.\n"
    assert fake.bodies[-1] == (
        b'{"bundle": "vad@1.0.0", "groups": ["lab", "field"], "devices": ["%b", "%b"], "note": "why", '
        b'"deadline_seconds": 7200}' % (DEVICE.encode(), DEVICE.encode())
    )


@pytest.mark.parametrize(
    "arguments", [("vad@1.0.0",), ("vad", "--group", "lab"), ("vad@1.0.0", "--group", "a", "--device", "?")]
)
def test_wrong_arguments_are_refused(at_fake: Kernex, fake: FakeServer, arguments: tuple[str, ...]) -> None:
    fake.responses["GET /devices"] = {
        "next": None,
        "results": [{"id": "1", "name": "twin"}, {"id": "2", "name": "twin"}],
    }
    assert at_fake("deploy", *arguments).code == 2
    assert at_fake("approve", "twin").code == 2
    assert fake.count("POST") == 0


def test_waiting_ends_when_all_have_succeeded(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["POST /deployments"] = deployment(waiting=2)
    fake.responses[f"GET /deployments/{ID}"] = [
        deployment(downloading=1, succeeded=1), deployment("finished", succeeded=2),
    ]  # fmt: skip
    outcome = at_fake("deploy", "vad@1.0.0", "--group", "lab", "--wait")
    assert (outcome.code, outcome.out) == (0, "vad@1.0.0: 2 succeeded.\n")


def test_waiting_continues_while_the_server_chooses_devices(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["POST /deployments"] = deployment("planning")
    fake.responses[f"GET /deployments/{ID}"] = [
        deployment("planning", waiting=0), deployment("running", waiting=1), deployment("finished", succeeded=1),
    ]  # fmt: skip
    outcome = at_fake("deploy", "vad@1.0.0", "--group", "lab", "--wait")
    assert (outcome.code, outcome.out) == (0, "vad@1.0.0: 1 succeeded.\n")


def test_a_deployment_without_devices_is_a_failure(at_fake: Kernex, fake: FakeServer) -> None:
    ended = {**deployment("finished", succeeded=0), "skipped": {"not_accepted": 1}, "reason_code": "no_devices"}
    fake.responses[f"GET /deployments/{ID}"] = [deployment("planning"), ended]
    outcome = at_fake("deployment", ID, "--wait")
    assert (outcome.code, outcome.out) == (6, "vad@1.0.0: no devices.\n")
    assert "1 device left out: not accepted." in outcome.err
    assert "No device was part of this deployment (no_devices)." in outcome.err


@pytest.mark.parametrize(("arguments", "has_first"), [((), False), (("-v",), True)])
def test_the_end_of_a_long_message_is_shown(
    at_fake: Kernex, fake: FakeServer, arguments: tuple[str, ...], has_first: bool
) -> None:
    message = "\n".join(["first line", *(f"frame {number}" for number in range(500)), "ValueError: the last line"])
    fake.responses[f"GET /deployments/{ID}"] = deployment("finished", failed=1)
    fake.responses[f"GET /deployments/{ID}/devices"] = {"next": None, "results": [row("failed", message)]}
    for waiting in (["--wait"], []):
        outcome = at_fake("deployment", ID, *waiting, *arguments)
        assert "ValueError: the last line" in outcome.out + outcome.err
        assert ("first line" in outcome.err) == has_first


def test_at_most_twenty_failures_are_shown(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses[f"GET /deployments/{ID}"] = deployment("finished", failed=25)
    rows = [row("failed", "too slow")] * 20
    fake.responses[f"GET /deployments/{ID}/devices"] = {"next": f"{fake.url}/api/v1/x?cursor=y", "results": rows}
    outcome = at_fake("deployment", ID, "--wait")
    assert outcome.err.count("too slow") == 20
    assert f"… and 5 more: kernex deployment {ID}" in outcome.err
    assert fake.count(f"GET /api/v1/deployments/{ID}/devices") == 1


@pytest.mark.parametrize("state", ["failed", "rolled_back", "rejected", "timed_out", "cancelled"])
def test_unsuccessful_devices_are_listed(at_fake: Kernex, fake: FakeServer, state: str) -> None:
    fake.responses[f"GET /deployments/{ID}"] = deployment("finished", succeeded=1, **{state: 1})
    fake.responses[f"GET /deployments/{ID}/devices"] = {
        "next": None, "results": [row(state, "first\nmiddle\nlast \x1b[31mline"), row("succeeded")],
    }  # fmt: skip
    outcome = at_fake("deployment", ID, "--wait", "--json")
    assert outcome.code == 6
    assert outcome.document["counts"][state] == 1
    assert f"shelf-4: {state.replace('_', ' ')} (unhealthy)\n" in outcome.err
    assert "    last \N{REPLACEMENT CHARACTER}[31mline\n" in outcome.err
    assert outcome.document["unsuccessful"][0]["message"] == "first\nmiddle\nlast \x1b[31mline"


def observed(observing: int, **counts: int) -> dict[str, Any]:
    """A finished deployment of whose successes some are under observation."""
    return deployment("finished", **counts) | {"observing": observing, "observation_seconds": 600}


def test_waiting_includes_the_observation(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses[f"GET /deployments/{ID}"] = [
        observed(2, succeeded=2), observed(2, succeeded=2), observed(1, succeeded=1, failed_late=1),
    ]  # fmt: skip
    late = row("succeeded") | {"late_outcome": {"reason_code": "crash_loop", "message": "exit code 1", "at": ""}}
    fake.responses[f"GET /deployments/{ID}/devices"] = {"next": None, "results": [late]}
    shown = at_fake("deployment", ID, "--wait")
    assert shown.code == 6
    assert "2 succeeded. Observing for up to 600 s; --no-observe skips this." in shown.err
    assert "shelf-4: failed late (crash_loop): exit code 1" in shown.err


def test_waiting_can_skip_the_observation(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses[f"GET /deployments/{ID}"] = observed(2, succeeded=2)
    assert at_fake("deployment", ID, "--wait", "--no-observe").code == 0
    assert at_fake("deployment", ID, "--wait", "--timeout", "1s").code == 6


def test_queries_are_sent(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["POST /deployments"] = deployment(waiting=1)
    at_fake("deploy", "vad@1.0.0", "--query", "runs.vad < 1", "--exclude", "tag = canary")
    assert b'"query": "runs.vad < 1", "exclude": "tag = canary"' in fake.bodies[-1]


def test_the_observation_times_are_sent(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["POST /deployments"] = deployment(waiting=1)
    at_fake("deploy", "vad@1.0.0", "--group", "lab", "--observation", "1h", "--unhealthy", "90s")
    assert fake.bodies[-1].endswith(b'"observation_seconds": 3600, "unhealthy_seconds": 90}')


def test_a_cancelled_deployment_ends_with_its_last_device(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses[f"GET /deployments/{ID}"] = [
        deployment("cancelled", cancelling=1), deployment("cancelled", cancelled=1),
    ]  # fmt: skip
    fake.responses[f"GET /deployments/{ID}/devices"] = NO_ROWS
    assert at_fake("deployment", ID, "--wait").code == 6
    assert fake.count(f"GET /api/v1/deployments/{ID}") == 3


def test_waiting_ends_at_the_timeout(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses[f"GET /deployments/{ID}"] = deployment(offered=1)
    outcome = at_fake("deployment", ID, "--wait", "--timeout", "1s")
    assert (outcome.code, outcome.out) == (6, "")
    assert "1 offered" in outcome.err


def test_a_deployment_is_shown(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses[f"GET /deployments/{ID}"] = deployment(downloading=1)
    fake.responses[f"GET /deployments/{ID}/devices"] = {"next": None, "results": [row("downloading")]}
    outcome = at_fake("deployment", ID, "--state", "downloading")
    assert outcome.code == 0
    assert "\t50 %\tunhealthy\t2026-01-02 03:04:05Z\t\n" in outcome.out
    assert "state=downloading" in fake.requests[-1]
    assert at_fake("deployment", ID, "--json").document["devices"][0]["device"] == DEVICE


def test_deployments_are_listed(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["GET /deployments"] = {"next": None, "results": [deployment(succeeded=1, waiting=0)]}
    assert f"vad@1.0.0\t{ID}\trunning\t1 succeeded\t2026-01-02 03:04:05Z\t\n" in at_fake("deployments").out
    assert at_fake("deployments", "--json").document["results"][0]["id"] == ID


def test_a_deployment_is_cancelled(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses[f"POST /deployments/{ID}/cancel"] = deployment("cancelled")
    assert at_fake("cancel", ID, "--json").document["state"] == "cancelled"


@pytest.mark.parametrize("arguments", [("cancel", "../status"), ("deployment", "5"), ("deployment", "")])
def test_other_texts_are_refused_as_an_id(at_fake: Kernex, fake: FakeServer, arguments: tuple[str, str]) -> None:
    assert at_fake(*arguments).code == 2
    assert fake.requests == []


def test_a_refused_cancellation_is_reported(at_fake: Kernex, fake: FakeServer) -> None:
    fake.fail("POST", error(409, "illegal_transition", "It has ended."))
    assert at_fake("cancel", ID).code == 4
