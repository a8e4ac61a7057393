"""The device API's examples: the agent sends no other members, and reads every response as the contract means it."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from agent.errors import Refused
from agent.server.api import read_error
from tests.agent import bundle
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer

EXAMPLES: list[dict[str, Any]] = json.loads((Path(__file__).parent.parent / "contract/device-api.json").read_text())
REFUSALS = [example for example in EXAMPLES if example["response"]["status"] >= 400]
PATHS = {
    "register": "/devices/register$",
    "heartbeat": "/heartbeat$",
    "attributes": "/attributes$",
    "result": "/result$",
    "logs": "/batches$",
}


def documented_members() -> dict[str, set[str]]:
    members: dict[str, set[str]] = defaultdict(set)
    for example in EXAMPLES:
        if example["response"]["status"] < 300:
            members[example["call"]] |= (example["request"].get("body") or {}).keys()
    return members


def test_the_agent_sends_the_members_of_the_contract(server: FakeServer, device: Device) -> None:
    device.start()
    device.finish(server.deploy(bundle.program("1")))
    log_request = server.request_logs()
    wait_for(lambda: log_request.state == "complete", 30, device.log_text)
    wait_for(lambda: server.outcomes.get(2), 30, device.log_text)
    for call, path in PATHS.items():
        requests = server.asked_for(path)
        assert requests, call
        sent = {name for request in requests for name in request.json}
        assert sent - documented_members()[call] == set(), call
    sent_fields = running_bundle_fields(request.json for request in server.asked_for(PATHS["heartbeat"]))
    documented = running_bundle_fields(e["request"]["body"] for e in EXAMPLES if e["call"] == "heartbeat")
    assert {"version", "healthy", "restarts"} <= sent_fields <= documented


def running_bundle_fields(heartbeats: Iterable[dict[str, Any]]) -> set[str]:
    return {name for body in heartbeats for entry in body["running_bundles"].values() for name in entry}


@pytest.mark.parametrize("example", REFUSALS, ids=[example["why"] for example in REFUSALS])
def test_every_refusal_of_the_contract_is_read_as_one(example: dict[str, Any]) -> None:
    response = example["response"]
    error = read_error(response["status"], {}, json.dumps(response["body"]).encode())
    assert isinstance(error, Refused)
    assert (error.status, error.code) == (response["status"], response["body"]["error"]["code"])
