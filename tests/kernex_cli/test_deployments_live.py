"""Deployments against a real control plane and devices that report."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kernex_cli.conftest import Kernex
from tests.live import Live
from tests.machine import Machine


@pytest.fixture
def label(at_live: Kernex, tmp_path: Path) -> str:
    """A bundle that is ready."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text(str(tmp_path))
    name = tmp_path.name.replace("_", "-").lower()[-40:].strip("-")
    outcome = at_live("push", tmp_path / "tree", "--name", name, "--version", "1.0.0", "--timeout", "60s")
    assert outcome.code == 0, outcome.err
    return f"{name}@1.0.0"


@contextmanager
def reporting(machine: Machine, state: str, **report: Any) -> Iterator[None]:
    """While the block runs, the device reports `state` for its first deployment."""
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            for command in machine.heartbeat()["commands"]:
                if command["kind"] == "deploy":
                    machine.report(command, 1, state, **report)
                    machine.heartbeat(acknowledged_commands=[command["id"]])
                    return
            time.sleep(0.1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_successful_deployment_is_followed_to_its_end(at_live: Kernex, live: Live, label: str) -> None:
    machine = Machine(live).register(live.enrolment_token("good"))
    with reporting(machine, "succeeded"):
        shown = at_live("deploy", label, "--group", "good", "--wait", "--no-observe", "--json", "--timeout", "60s")
    assert shown.code == 0, shown.err
    assert shown.document["counts"]["succeeded"] == 1
    assert shown.document["state"] == "finished"
    assert shown.document["id"] in [
        deployment["id"] for deployment in at_live("deployments", "--json").document["results"]
    ]


def test_a_device_shows_its_deployments_and_commands(at_live: Kernex, live: Live, label: str) -> None:
    machine = Machine(live).register(live.enrolment_token("outcome"))
    with reporting(machine, "failed", reason_code="unhealthy", message="first line\nlast line"):
        assert at_live("deploy", label, "--device", machine.name, "--wait", "--timeout", "60s").code == 6
    document = at_live("device", machine.name, "--json").document
    assert [(row["bundle"], row["state"]) for row in document["deployments"]] == [(label, "failed")]
    assert [command["kind"] for command in document["commands"]] == ["deploy"]
    assert "last line" in at_live("device", machine.id[:8]).out


def test_the_reason_of_a_failure_is_shown(at_live: Kernex, live: Live, label: str) -> None:
    machine = Machine(live).register(live.enrolment_token("bad"))
    with reporting(machine, "rolled_back", reason_code="unhealthy", message="3 of 5 segments"):
        outcome = at_live("deploy", label, "--device", machine.name, "--wait", "--timeout", "60s")
    assert outcome.code == 6
    assert f"{machine.name}: rolled back (unhealthy): 3 of 5 segments" in outcome.err


def test_a_deployment_is_shown_and_cancelled(at_live: Kernex, live: Live, label: str) -> None:
    machine = Machine(live).register(live.enrolment_token("slow"))
    started = at_live("deploy", label, "--group", "slow", "--deadline", "1h", "--note", "try", "--json")
    assert started.code == 0, started.err
    assert (started.document["deadline_seconds"], started.document["note"]) == (3600, "try")
    assert at_live("deployment", started.document["id"], "--wait", "--timeout", "1s").code == 6
    document = at_live("deployment", started.document["id"], "--json").document
    assert [row["device"] for row in document["devices"]] == [machine.id]
    assert at_live("cancel", started.document["id"][:8], "--json").document["id"] == started.document["id"]


def test_a_canary_that_fails_pauses_the_deployment_until_somebody_decides(
    at_live: Kernex, live: Live, label: str
) -> None:
    token = live.enrolment_token("rollout")
    canary, other = Machine(live).register(token), Machine(live).register(token)
    start = ["deploy", label, "--group", "rollout", "--phases", "1,all", "--gate", "--canary", canary.name, "--wait"]
    with reporting(canary, "failed", reason_code="unhealthy", message="no gate found"):
        outcome = at_live(*start, "--timeout", "60s", "--json")
    assert outcome.code == 8, outcome.err
    assert "no gate found" in outcome.err
    deployment = outcome.document["id"]
    assert other.heartbeat()["commands"] == []
    assert "tripped" in at_live("deployment", deployment).out
    assert "(decision_required)" in at_live("resume", deployment).err
    decision = ["resume", deployment, "--skip-phase", "--reason", "a board with a known defect"]
    assert at_live(*decision, "--json").document["state"] == "running"
    with reporting(other, "succeeded"):
        shown = at_live("deployment", deployment, "--wait", "--no-observe", "--timeout", "60s", "--json")
    assert (shown.code, shown.document["counts"]["succeeded"]) == (6, 1)  # one device failed
    assert [phase["state"] for phase in shown.document["phases"]] == ["skipped", "passed"]


def test_a_deployment_is_paused_resumed_and_promoted(at_live: Kernex, live: Live, label: str) -> None:
    token = live.enrolment_token("gate")
    first, second = Machine(live).register(token), Machine(live).register(token)
    start = ["deploy", label, "--group", "gate", "--phases", "1,all", "--gate", "--canary", first.name]
    deployment = at_live(*start, "--json").document["id"]
    while at_live("deployment", deployment, "--json").document["state"] == "planning":
        time.sleep(0.1)
    assert at_live("pause", deployment, "--json").document["pause_reason"] == "operator"
    assert at_live("resume", deployment, "--json").document["state"] == "running"
    with reporting(first, "succeeded"):
        gated = at_live("deployment", deployment, "--wait", "--timeout", "60s", "--json")
    assert (gated.code, gated.document["pause_reason"]) == (8, "manual_gate")
    assert at_live("promote", deployment, "--json").document["state"] == "running"
    with reporting(second, "succeeded"):
        shown = at_live("deployment", deployment, "--wait", "--no-observe", "--timeout", "60s", "--json")
    assert (shown.code, shown.document["outcome"]) == (0, "succeeded")


def test_a_deployment_is_scheduled_adjusted_and_retried(at_live: Kernex, live: Live, label: str) -> None:
    machine = Machine(live).register(live.enrolment_token("later"))
    start = ["deploy", label, "--group", "later", "--start", "2h", "--in-flight", "5", "--in-flight-per", "site:=2"]
    deployment = at_live(*start, "--attempts", "1", "--json").document["id"]
    while (shown := at_live("deployment", deployment, "--json").document)["state"] == "planning":
        time.sleep(0.1)
    assert (shown["state"], shown["devices"][0]["waiting_for"]["kind"]) == ("scheduled", "start")
    assert "The deployment has not started." in at_live("deployment", deployment).out
    assert at_live("adjust", deployment).code == 2
    now = [
        "adjust",
        deployment,
        "--start",
        "0s",
        "--no-limits",
        "--expires",
        "1d",
        "--priority",
        "0",
        "--reason",
        "try",
    ]
    adjusted = at_live(*now, "--json").document
    assert (adjusted["max_in_flight"], adjusted["limit_tag"], adjusted["priority"]) == (None, "", 0)
    with reporting(machine, "failed"):
        ended = at_live("deployment", deployment, "--wait", "--timeout", "60s", "--json")
    assert (ended.code, ended.document["outcome"]) == (6, "incomplete")
    assert "(nothing_to_retry)" in at_live("retry", deployment, "--reason-code", "no_space").err
    retried = at_live("retry", deployment, "--json").document
    assert retried["repeats"] == deployment
    with reporting(machine, "succeeded"):
        shown = at_live("deployment", retried["id"], "--wait", "--no-observe", "--timeout", "60s", "--json")
    assert shown.code == 0, shown.err
    repeated = at_live("repeat", deployment, "--json").document
    assert (repeated["repeats"], repeated["bundle"]) == (deployment, label)
    assert at_live("cancel", repeated["id"]).code == 0


def test_a_deployment_is_rolled_back(at_live: Kernex, live: Live, label: str) -> None:
    machine = Machine(live).register(live.enrolment_token("back"))
    with reporting(machine, "succeeded"):
        deployed = at_live("deploy", label, "--group", "back", "--wait", "--no-observe", "--timeout", "60s", "--json")
    assert deployed.code == 0, deployed.err
    deployment = deployed.document["id"]
    started = at_live("rollback", deployment, "--reason", "try", "--json")
    assert started.code == 0, started.err
    rollback = started.document
    assert (rollback["reverts"], rollback["note"]) == (deployment, "try")
    # This device does not report that it runs the bundle, so it has nothing to do.
    assert at_live("deployment", rollback["id"], "--wait", "--timeout", "60s").code == 0
    reverted = at_live("deployment", deployment, "--wait", "--timeout", "60s", "--json")
    assert (reverted.code, reverted.document["outcome"]) == (6, "rolled_back")


def test_impossible_deployments_are_refused(at_live: Kernex, live: Live, label: str) -> None:
    assert "(unknown_bundle)" in at_live("deploy", "nothing@1", "--group", live.group()).err
    assert "(unknown_groups)" in at_live("deploy", label, "--group", "nowhere").err
    assert at_live("deploy", label, "--group", live.group("empty")).code == 4
    assert at_live("deployment", "5b1f0f0e-3c1b-4b0c-8f57-2f1f6b6f3a11").code == 4


def test_a_preview_shows_what_would_happen_and_deploys_nothing(at_live: Kernex, live: Live, label: str) -> None:
    machines = [Machine(live).register(live.enrolment_token("preview")) for _ in range(3)]
    shown = at_live("deploy", label, "--group", "preview", "--phases", "1,all", "--soak", "5m", "--preview")
    assert shown.code == 0, shown.err
    assert f"{label} would be deployed to 3 devices. Nothing has been deployed." in shown.out
    assert "1 failure" in shown.out
    document = at_live("deploy", label, "--group", "preview", "--preview", "--json").document
    assert document["state"] == "ready"
    assert document["outlook"]["device_count"] == 3
    assert label not in [each["bundle"] for each in at_live("deployments", "--json").document["results"]]
    assert machines[0].heartbeat()["commands"] == []
