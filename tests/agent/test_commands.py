"""Commands: each kind has a handler, and each command ends with exactly one outcome."""

from typing import Any
from uuid import uuid4

import pytest

from agent.jobs import commands
from agent.jobs.state import CommandOutcome, Outcome, State
from tests.agent import bundle, faults
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer

DEPLOYMENT = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
PAYLOADS: dict[str, dict[str, Any]] = {
    "deploy": {
        "deployment_id": DEPLOYMENT, "attempt": 1,
        "bundle": {"name": "vad", "version": "1", "manifest_sha256": "0" * 64, "manifest_size": 10},
    },
    "cancel": {"deployment_id": DEPLOYMENT, "attempt": 1},
    "send_logs": {"request_id": DEPLOYMENT, "max_size": 1024},
}  # fmt: skip


def accept(state: State, *offered: tuple[int, str, Any]) -> None:
    commands.accept(state, [{"id": number, "kind": kind, "payload": payload} for number, kind, payload in offered])


def outcomes(state: State) -> list[tuple[int, str]]:
    return [(outcome.id, outcome.outcome) for outcome in state.command_outcomes]


def test_each_kind_has_a_handler_and_a_valid_payload() -> None:
    assert commands.HANDLERS.keys() == PAYLOADS.keys()


def test_deploy_and_cancel_are_done_immediately_but_send_logs_later() -> None:
    state = State()
    accept(state, *((number, kind, payload) for number, (kind, payload) in enumerate(PAYLOADS.items(), 1)))
    assert outcomes(state) == [(1, "done"), (2, "done")]
    assert state.jobs[0].is_cancelled
    assert state.log_requests[0].command_id == 3
    commands.finish(state, 3, Outcome.DONE)
    assert outcomes(state)[2] == (3, "done")


def test_a_command_that_is_offered_again_is_only_acknowledged() -> None:
    state = State()
    accept(state, (1, "deploy", PAYLOADS["deploy"]), (1, "deploy", PAYLOADS["deploy"]))
    commands.confirm(state, [1], [1])
    accept(state, (1, "deploy", PAYLOADS["deploy"]))
    assert len(state.jobs) == 1
    assert state.acknowledge == [1]
    assert state.command_outcomes == []


@pytest.mark.parametrize("kind", ["roll_back", "configure", "rotate_key", "", None, 7, "x\ny", [], {}])
def test_an_unknown_kind_is_acknowledged_and_has_an_outcome(kind: Any) -> None:
    state = State()
    accept(state, (5, kind, {}), (6, "cancel", PAYLOADS["cancel"]))
    assert outcomes(state) == [(5, "unknown_command"), (6, "done")]
    assert state.acknowledge == [5, 6]


@pytest.mark.parametrize("kind", PAYLOADS)
def test_each_missing_or_invalid_field_ends_as_failed(kind: str) -> None:
    for name in PAYLOADS[kind]:
        invalid_payloads: list[Any] = [{**PAYLOADS[kind], name: [1]}, {**PAYLOADS[kind], name: None}, None, []]
        for payload in invalid_payloads:
            state = State()
            accept(state, (1, kind, payload))
            assert outcomes(state) == [(1, "failed")]
            assert state.jobs + state.outbox + state.log_requests == []
            assert len(state.command_outcomes[0].message) <= commands.MAX_OUTCOME_MESSAGE


def test_excess_log_requests_are_not_acknowledged() -> None:
    state = State()
    for number in range(1, 30):
        accept(state, (number, "send_logs", {"request_id": str(uuid4()), "max_size": 1024}))
    assert len(state.log_requests) == len(state.acknowledge) == commands.MAX_LOG_REQUESTS


def test_outcomes_are_removed_only_when_their_heartbeat_is_accepted() -> None:
    state = State(command_outcomes=[CommandOutcome(number, Outcome.DONE) for number in (1, 2, 3)])
    commands.confirm(state, [], [1, 3])
    assert outcomes(state) == [(2, "done")]


def test_an_outcome_is_repeated_until_a_heartbeat_is_accepted(server: FakeServer, device: Device) -> None:
    server.faults.append(faults.on("/heartbeat", drop_heartbeats_with_outcomes, times=3))
    deployment = server.deploy(bundle.data("1"))
    server.command("rotate_key", {})
    device.start()
    device.wait_for_end(deployment)
    wait_for(lambda: len(server.outcomes) == 2, 30, device.log_text)
    assert server.outcomes[1] == ("done", "")
    assert server.outcomes[2][0] == "unknown_command"
    wait_for(lambda: device.state.command_outcomes == [])


def drop_heartbeats_with_outcomes(request: Any) -> bool:
    return bool(request.json["command_outcomes"]) and faults.drop(request)
