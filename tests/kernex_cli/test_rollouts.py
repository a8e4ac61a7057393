"""Phases and thresholds on the command line: `deploy` with its options and files, `pause`, `resume` and `promote`."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kernex_cli.conftest import Kernex
from tests.kernex_cli.fake_server import FakeServer, error
from tests.kernex_cli.test_deployments import ID, NO_ROWS, deployment, row

START = ("deploy", "vad@1.0.0", "--group", "lab")


def phase(number: int, state: str, **fields: Any) -> dict[str, Any]:
    counts = {"admitted": 2, "good": 1, "bad": 1, "lost": 0, "neutral": 0}
    return {"number": number, "state": state, "counts": counts, "evicted": 0, **fields}


def request(fake: FakeServer) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(fake.bodies[-1])
    return body


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (("--phases", "1%,25%,100%"), {"phases": [{"percent": 1}, {"percent": 25}, {}]}),
        (("--phases", "5, 50, all"), {"phases": [{"count": 5}, {"count": 50}, {}]}),
        (
            ("--phases", "10%,100%", "--soak", "30m", "--success", "90%", "--errors", "5"),
            {
                "phases": [
                    {
                        "percent": 10,
                        "soak_seconds": 1800,
                        "success_threshold_percent": 90,
                        "error_threshold_percent": 5,
                    },
                    {"soak_seconds": 1800, "success_threshold_percent": 90, "error_threshold_percent": 5},
                ]
            },
        ),
        (("--errors", "0"), {"phases": [{"error_threshold_percent": 0}]}),
        (("--phases", "10%,all", "--gate"), {"phases": [{"percent": 10, "manual_gate": True}, {}]}),
        (
            ("--on-failure", "cancel", "--max-bad", "3", "--accept", "10m", "--fill", "2h"),
            {"on_failure": "cancel", "max_bad": 3, "accept_seconds": 600, "fill_seconds": 7200},
        ),
        (
            ("--stratum", "type", "--stratum", "tag:site-", "--allow-downgrade"),
            {"strata": ["type", "tag:site-"], "allow_downgrade": True},
        ),
    ],
)
def test_options_describe_the_rollout(
    at_fake: Kernex, fake: FakeServer, arguments: tuple[str, ...], fields: dict[str, Any]
) -> None:
    fake.responses["POST /deployments"] = deployment(waiting=2)
    assert at_fake(*START, *arguments).code == 0
    assert request(fake) == {"bundle": "vad@1.0.0", "groups": ["lab"], "devices": [], "note": "", **fields}


def test_a_file_describes_the_rollout_and_options_override_it(
    at_fake: Kernex, fake: FakeServer, tmp_path: Path
) -> None:
    file = tmp_path / "rollout.toml"
    file.write_text('groups = ["field"]\nmax_bad = 3\nnote = "n"\n[[phases]]\npercent = 10\n[[phases]]\n')
    fake.responses["POST /deployments"] = deployment(waiting=2)
    assert at_fake("deploy", "vad@1.0.0", "--file", str(file), "--max-bad", "5", "--soak", "60s").code == 0
    body = request(fake)
    assert (body["groups"], body["max_bad"], body["note"]) == (["field"], 5, "n")
    assert body["phases"] == [{"percent": 10, "soak_seconds": 60}, {"soak_seconds": 60}]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"phases = [", "is not valid TOML"), (b"\xff", "is not UTF-8 text"), (None, "Cannot read")],
)
def test_a_file_that_cannot_be_read_is_explained(
    at_fake: Kernex, fake: FakeServer, tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "rollout.toml"
    if content is not None:
        file.write_bytes(content)
    outcome = at_fake(*START, "--file", str(file))
    assert (outcome.code, message in outcome.err) == (7, True), outcome.err
    assert fake.count("POST") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--phases", "10%,50%"), "write 10%,50%,100%"),
        (("--phases", "x,100%"), "is not the size of a phase"),
        (("--errors", "101"), "is not a percentage"),
        (("--gate",), "A gate is between two phases"),
        (("--on-failure", "explode"), "is not one of pause, cancel, roll_back"),
    ],
)
def test_wrong_options_are_explained(
    at_fake: Kernex, fake: FakeServer, arguments: tuple[str, ...], message: str
) -> None:
    outcome = at_fake(*START, *arguments)
    assert (outcome.code, message in outcome.err) == (2, True), outcome.err
    assert fake.count("POST") == 0


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("error_threshold", f"kernex resume {ID} --help"),
        ("manual_gate", f"kernex promote {ID}"),
        ("operator", f"kernex resume {ID}"),
    ],
)
def test_waiting_ends_when_the_deployment_is_paused(
    at_fake: Kernex, fake: FakeServer, reason: str, advice: str
) -> None:
    paused = deployment("paused", waiting=8, failed=1) | {"pause_reason": reason}
    fake.responses["POST /deployments"] = paused
    fake.responses[f"GET /deployments/{ID}"] = paused
    fake.responses[f"GET /deployments/{ID}/devices"] = {"next": None, "results": [row("failed", "no gate found")]}
    outcome = at_fake(*START, "--wait")
    assert outcome.code == 8
    assert f"The deployment is paused ({reason.replace('_', ' ')}). Next: {advice}\n" in outcome.err
    assert "no gate found" in outcome.err


def test_a_deployment_shows_its_phases(at_fake: Kernex, fake: FakeServer) -> None:
    phases = [phase(1, "tripped", percent=10), phase(2, "pending")]
    fake.responses[f"GET /deployments/{ID}"] = deployment("paused", waiting=9) | {
        "phases": phases,
        "pause_reason": "error_threshold",
    }
    fake.responses[f"GET /deployments/{ID}/devices"] = NO_ROWS
    outcome = at_fake("deployment", ID)
    assert "1\ttripped\t10 %\t2\t1\t1\t0\t0\t" in outcome.out
    assert "2\tpending\tall\t" in outcome.out


@pytest.mark.parametrize("action", ["pause", "resume", "promote"])
def test_a_deployment_is_controlled(at_fake: Kernex, fake: FakeServer, action: str) -> None:
    fake.responses[f"POST /deployments/{ID}/{action}"] = deployment("running", waiting=1)
    assert at_fake(action, ID).out == f"Deployment {ID} is running.\n"
    assert request(fake) == {}


def test_a_deployment_is_rolled_back(at_fake: Kernex, fake: FakeServer) -> None:
    rollback = "7c1b0f0e-3c1b-4b0c-8f57-2f1f6b6f3a22"
    fake.responses[f"POST /deployments/{ID}/roll-back"] = deployment("planning") | {"id": rollback, "reverts": ID}
    outcome = at_fake("rollback", ID, "--reason", "drops frames")
    lines = [f"The rollback {rollback} has started.", f"Next: kernex deployment {rollback} --wait"]
    assert outcome.out.splitlines() == lines
    assert request(fake) == {"reason": "drops frames"}


def test_a_rollback_is_called_one(at_fake: Kernex, fake: FakeServer) -> None:
    rollback = deployment("finished", succeeded=1) | {"reverts": ID, "outcome": "succeeded"}
    fake.responses["GET /deployments"] = {"next": None, "results": [rollback]}
    assert "rollback of vad@1.0.0\t" in at_fake("deployments").out


def test_a_decision_is_sent_with_its_reason(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses[f"POST /deployments/{ID}/resume"] = deployment("running", waiting=1)
    arguments = ["--reason", "known", "--errors", "20", "--success", "0", "--accept-failures"]
    assert at_fake("resume", ID, *arguments).code == 0
    assert request(fake) == {
        "reason": "known",
        "error_threshold_percent": 20,
        "success_threshold_percent": 0,
        "accept_failures": True,
    }


def test_a_refused_decision_is_explained(at_fake: Kernex, fake: FakeServer) -> None:
    fake.fail("POST", error(409, "decision_required", "A phase tripped."))
    outcome = at_fake("resume", ID)
    assert (outcome.code, "decision_required" in outcome.err) == (4, True)


def preview(state: str, **fields: Any) -> dict[str, Any]:
    outlook = {
        "visited": 5000,
        "device_count": 40,
        "skipped": {"no_space": 2, "excluded": 0},
        "samples": {"": [], "no_space": [{"id": ID, "name": "edge-7"}]},
        "phases": [
            {"number": 1, "devices": 5, "device_count": 5, "tolerated": 0, "soak_seconds": 600, "strata": {"edge": 5}},
            {"number": 2, "devices": 35, "device_count": 40, "tolerated": 3, "soak_seconds": 0, "strata": {}},
        ],
        "silences": {"reachable": 39, "hour": 0, "day": 1},
        "transfers": [{"running": "0.9.0", "devices": 40, "bytes": 2048}],
        "total_bytes": 81920,
        "expected_seconds": 700,
    }
    return {"id": ID, "bundle": "vad@1.0.0", "state": state, "reason_code": "", "outlook": outlook | fields}


def test_a_preview_is_waited_for_and_shown(at_fake: Kernex, fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernex_cli.commands.deployment_preview.POLL_SECONDS", 0)
    fake.responses["POST /deployments/preview"] = preview("computing", device_count=1)
    fake.responses[f"GET /deployments/previews/{ID}"] = preview("ready")
    outcome = at_fake(*START, "--preview")
    assert outcome.code == 0, outcome.err
    assert "vad@1.0.0 would be deployed to 40 devices." in outcome.out
    assert "no space\t2\tedge-7" in outcome.out
    assert "1\t5\t5\t1 failure\t10 min\tedge 5" in outcome.out
    assert "2\t35\t40\t4 failures" in outcome.out
    assert "0.9.0\t40\t2.0 KiB" in outcome.out
    assert "Not reachable now: 1 for up to a day." in outcome.err
    assert "Expected to take 11 min 40 s" in outcome.err


def test_a_preview_that_failed_says_why(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["POST /deployments/preview"] = preview("failed")
    outcome = at_fake(*START, "--preview")
    assert outcome.code == 6
    assert "the query cannot be evaluated" in outcome.err
