"""The examples of the device API: the agent sends no undocumented fields, and understands every refusal."""

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


def documented_fields() -> dict[str, set[str]]:
    fields: dict[str, set[str]] = defaultdict(set)
    for example in EXAMPLES:
        if example["response"]["status"] < 300:
            fields[example["call"]] |= (example["request"].get("body") or {}).keys()
    return fields


def test_the_agent_sends_only_documented_fields(server: FakeServer, device: Device) -> None:
    device.start()
    device.wait_for_end(server.deploy(bundle.program("1")))
    log_request = server.request_logs()
    wait_for(lambda: log_request.state == "complete", 30, device.log_text)
    wait_for(lambda: server.outcomes.get(2), 30, device.log_text)
    for call, path in PATHS.items():
        requests = server.requests_to(path)
        assert requests, call
        sent = {name for request in requests for name in request.json}
        assert sent - documented_fields()[call] == set(), call
    sent_fields = running_bundle_fields(request.json for request in server.requests_to(PATHS["heartbeat"]))
    documented = running_bundle_fields(e["request"]["body"] for e in EXAMPLES if e["call"] == "heartbeat")
    assert {"version", "healthy", "restarts"} <= sent_fields <= documented


def running_bundle_fields(heartbeats: Iterable[dict[str, Any]]) -> set[str]:
    return {name for body in heartbeats for entry in body["running_bundles"].values() for name in entry}


@pytest.mark.parametrize("example", REFUSALS, ids=[example["why"] for example in REFUSALS])
def test_every_refusal_of_the_contract_is_a_refused_error(example: dict[str, Any]) -> None:
    response = example["response"]
    error = read_error(response["status"], {}, json.dumps(response["body"]).encode())
    assert isinstance(error, Refused)
    assert (error.status, error.code) == (response["status"], response["body"]["error"]["code"])
