"""Servers that lie or are broken: the device stays in contact, and each deployment ends once."""

import json
import time
from typing import Any

import pytest

from tests.agent import bundle
from tests.agent.device import Device, wait_for
from tests.agent.faults import on, status
from tests.agent.server import DeviceDeployment, FakeServer, Request

DEPLOYMENT = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
NAMED = {"name": "vad", "version": "1", "manifest_sha256": "0" * 64, "manifest_size": 10}
DEEP: Any = json.loads("[" * 900 + "]" * 900)
ODD: list[Any] = [None, 7, -1, True, 1.5, 1e300, "text", "\ud800\x1b[2J", [], {}, [{}], DEEP]
ODD_NAMES: list[Any] = [None, 7.5, [], {}, "../x", "\ud800"]
ODD_ATTEMPTS: list[Any] = [0, -1, True, "1", 1.5, 2**70]
ODD_PAYLOADS = [
    *ODD,
    *[{"deployment_id": odd, "attempt": 1, "bundle": NAMED, "product": [odd]} for odd in ODD],
    *[{"deployment_id": DEPLOYMENT, "attempt": odd, "bundle": NAMED} for odd in ODD_ATTEMPTS],
]
ODD_BUNDLES: list[Any] = [
    *({"deployment_id": DEPLOYMENT, "attempt": 1, "bundle": odd} for odd in ODD),
    *(
        {"deployment_id": DEPLOYMENT, "attempt": 1, "bundle": {**NAMED, member: odd}}
        for member in NAMED
        for odd in ODD_NAMES
    ),
]


def test_malformed_commands_do_not_stop_the_following_ones(server: FakeServer, device: Device) -> None:
    for payload in ODD_PAYLOADS:
        for kind in ("deploy", "cancel", "send_logs", "unknown"):
            server.command(kind, payload)
    for payload in ODD_BUNDLES:
        server.command("deploy", payload)
    for kind in ODD:
        server.command(kind, NAMED)
    deployment = server.deploy(bundle.data("1"))
    device.once()
    assert deployment.state == "succeeded", device.log_text()
    assert len(server.acknowledged) == len(server.commands)


def test_a_flood_of_commands_is_accepted_in_parts(server: FakeServer, device: Device) -> None:
    """The server offers again what the device did not accept yet."""
    bundle_1 = bundle.data("1")
    server.publish(bundle_1)
    for number in range(3000):
        server.command("cancel" if number % 2 else "deploy", server.deploy_payload(DeviceDeployment(bundle_1)))
    device.start()
    wait_for(lambda: len(server.heartbeats) >= 3, 60, device.log_text)
    assert (device.state_dir / "journal.json").stat().st_size < 300_000


def test_a_response_whose_head_never_ends_does_not_stop_the_heartbeats(server: FakeServer, device: Device) -> None:
    device.options |= {"ANSWER_TIMEOUT_SECONDS": "2", "READ_TIMEOUT_SECONDS": "2"}

    def drip(request: Request) -> bool:
        try:
            for _ in range(300):
                request.handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                time.sleep(0.1)
        finally:
            request.drop()
        return True

    server.faults = [on("heartbeat", drip, times=1)]
    device.start()
    wait_for(lambda: server.heartbeats, 15, device.log_text)


@pytest.mark.parametrize(
    "location", ["https://[::1", "http://[", "https://127.0.0.1:99999/", "\xff\xfe", "https://", ""]
)
def test_an_invalid_redirect_is_retried(server: FakeServer, device: Device, location: str) -> None:
    server.faults = [on("GET /api/v1/blobs", status(302, b"", Location=location), times=4)]
    deployment = server.deploy(bundle.data("1"))
    device.start()
    assert device.finish(deployment)["state"] == "succeeded"
    assert "Traceback" not in device.log_text()


@pytest.mark.parametrize("name", ["Content-Length", "Content-Range", "Retry-After"])
def test_a_number_of_thousands_of_digits_in_a_header_is_ignored(server: FakeServer, device: Device, name: str) -> None:
    def answer_wrongly(request: Request) -> bool:
        unit = "bytes 0-1/" if name == "Content-Range" else ""
        request.answer(503 if name == "Retry-After" else 206, b"", **{name: unit + "9" * 5000})
        request.drop()
        return True

    server.faults = [on("GET /api/v1/blobs", answer_wrongly, times=3)]
    deployment = server.deploy(bundle.data("1"))
    device.start()
    assert device.finish(deployment)["state"] == "succeeded"
    assert "Traceback" not in device.log_text()


# Times that are before the first or after the last year in another time zone.
EXTREME_TIMES = ("0001-01-01T00:00:00+23", "9999-12-31T23:59:59-23")


def test_responses_of_odd_types_do_not_stop_the_agent(server: FakeServer, device: Device) -> None:
    odds = [None, 7, "text", [{}], DEEP]
    answers = [
        *({"state": odd, "interval_seconds": 1, "commands": odd} for odd in odds),
        *({"state": "accepted", "interval_seconds": 1, "commands": [odd, {"id": odd, "kind": odd}]} for odd in odds),
        *({"error": {"code": "sequence_used", "next_sequence": odd}} for odd in odds),
        *({"error": {"code": "clock_skew", "server_time": odd, "message": odd}} for odd in odds),
        *({"error": {"code": "clock_skew", "server_time": f"{moment}:59"}} for moment in EXTREME_TIMES),
        *({"error": odd} for odd in odds),
        *odds,
    ]
    left = list(answers)

    def answer_wrongly(request: Request) -> bool:
        if not left:
            return False
        answer = left.pop(0)
        is_error = isinstance(answer, dict) and "error" in answer
        request.answer(409 if is_error else 200, json.dumps(answer).encode())
        return True

    server.faults = [on("heartbeat|result|attributes", answer_wrongly)]
    device.start()
    wait_for(lambda: not left, 120, device.log_text)
    server.faults = []
    deployment = server.deploy(bundle.data("1"))
    assert device.finish(deployment)["state"] == "succeeded"
    assert "Traceback" not in device.log.read_text(), device.log.read_text()


def test_deploy_cancel_and_deploy_in_one_response(server: FakeServer, device: Device) -> None:
    bundle_1, bundle_2 = bundle.program("1"), bundle.program("2")
    first = server.deploy(bundle_1)
    server.cancel(first)
    second = server.deploy(bundle_2)
    device.start()
    device.finish(second)
    assert (first.state, second.state) == ("cancelled", "succeeded")
    assert [report["state"] for report in first.taken].count("cancelled") == 1
    assert first.late == second.late == []
    device.stop()
    device.check()


def test_cancelling_an_unknown_deployment_leaves_nothing(server: FakeServer, device: Device) -> None:
    server.command("cancel", {"deployment_id": DEPLOYMENT, "attempt": 3})
    deployment = server.deploy(bundle.data("1"))
    device.start()
    device.finish(deployment)
    wait_for(lambda: len(server.acknowledged) == 2)
    device.stop()
    assert list(device.state.products) == ["vad"]
    device.check()
