"""`kernex watch`: the drawing of a deployment, and the lines without a terminal."""

from typing import Any

import pytest
from rich.console import Console, Group

from kernex_cli.commands import watch
from kernex_cli.deployment_resources import Deployment
from tests.kernex_cli.conftest import Kernex
from tests.kernex_cli.fake_server import FakeServer
from tests.kernex_cli.test_deployments import ID, deployment
from tests.kernex_cli.test_rollouts import phase


def counts(**numbers: int) -> dict[str, int]:
    return {"admitted": 0, "good": 0, "bad": 0, "lost": 0, "neutral": 0} | numbers


RUNNING: dict[str, Any] = deployment("running", waiting=6, succeeded=2, failed=1) | {
    "next_step": "Phase 1 of 2 waits for the results of 1 device.",
    "phases": [
        phase(1, "settling", count=4) | {"device_count": 4, "counts": counts(admitted=4, good=2, bad=1)},
        phase(2, "pending") | {"device_count": 10, "counts": counts()},
    ],
}


def drawn(document: dict[str, Any]) -> str:
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(Group(*watch.drawing(Deployment.parse(document))))
    return capture.get()


def test_each_phase_has_a_bar_with_its_devices() -> None:
    title, first, second, failed, next_step = drawn(RUNNING).splitlines()
    assert title == "vad@1.0.0  running"
    assert first.startswith("Phase 1 " + "█" * 30 + " 4 of 4  settling  2 good, 1 bad")
    assert second.startswith("Phase 2 " + "░" * 30 + " 0 of 6  pending")
    assert failed == f"1 did not succeed: kernex deployment {ID}"
    assert next_step == "Phase 1 of 2 waits for the results of 1 device."


def test_texts_cannot_control_the_terminal() -> None:
    assert "\x1b" not in drawn(RUNNING | {"next_step": "\x1b[2J", "bundle": "\x1b]0;x"})


def test_it_follows_the_deployment_to_its_end(
    at_fake: Kernex, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = deployment("finished", succeeded=9) | {"outcome": "succeeded", "finished_at": "2026-01-01T00:00:00Z"}
    fake.responses[f"GET /deployments/{ID}"] = ended
    outcome = at_fake("watch", ID)
    assert outcome.code == 0, outcome.err
    assert "succeeded: 9 succeeded." in outcome.err
    assert "vad@1.0.0: 9 succeeded." in outcome.out
    fake.responses[f"GET /deployments/{ID}"] = ended | {"outcome": "incomplete"}
    assert at_fake("watch", ID).code == 6
