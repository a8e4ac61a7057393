"""Malicious and broken servers: the device continues to send heartbeats, and each deployment ends once."""

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
INVALID: list[Any] = [None, 7, -1, True, 1.5, 1e300, "text", "\ud800\x1b[2J", [], {}, [{}], DEEP]
INVALID_NAMES: list[Any] = [None, 7.5, [], {}, "../x", "\ud800"]
INVALID_ATTEMPTS: list[Any] = [0, -1, True, "1", 1.5, 2**70]
INVALID_PAYLOADS = [
    *INVALID,
    *[{"deployment_id": invalid, "attempt": 1, "bundle": NAMED, "product": [invalid]} for invalid in INVALID],
    *[{"deployment_id": DEPLOYMENT, "attempt": invalid, "bundle": NAMED} for invalid in INVALID_ATTEMPTS],
]
INVALID_BUNDLES: list[Any] = [
    *({"deployment_id": DEPLOYMENT, "attempt": 1, "bundle": invalid} for invalid in INVALID),
    *(
        {"deployment_id": DEPLOYMENT, "attempt": 1, "bundle": {**NAMED, name: invalid}}
        for name in NAMED
        for invalid in INVALID_NAMES
    ),
]


def test_malformed_commands_do_not_stop_the_following_ones(server: FakeServer, device: Device) -> None:
    for payload in INVALID_PAYLOADS:
        for kind in ("deploy", "cancel", "send_logs", "unknown"):
            server.command(kind, payload)
    for payload in INVALID_BUNDLES:
        server.command("deploy", payload)
    for kind in INVALID:
        server.command(kind, NAMED)
    deployment = server.deploy(bundle.data("1"))
    device.once()
    assert deployment.state == "succeeded", device.log_text()
    assert len(server.acknowledged) == len(server.commands)


def test_too_many_commands_are_accepted_step_by_step(server: FakeServer, device: Device) -> None:
    """The server sends the commands again that the device has not accepted yet."""
    bundle_1 = bundle.data("1")
    server.publish(bundle_1)
    for number in range(3000):
        server.command("cancel" if number % 2 else "deploy", server.deploy_payload(DeviceDeployment(bundle_1)))
    device.start()
    wait_for(lambda: len(server.heartbeats) >= 3, 60, device.log_text)
    assert (device.state_dir / "journal.json").stat().st_size < 300_000


def test_endless_response_headers_do_not_stop_the_heartbeats(server: FakeServer, device: Device) -> None:
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
    assert device.wait_for_end(deployment)["state"] == "succeeded"
    assert "Traceback" not in device.log_text()


@pytest.mark.parametrize("name", ["Content-Length", "Content-Range", "Retry-After"])
def test_a_header_with_thousands_of_digits_is_ignored(server: FakeServer, device: Device, name: str) -> None:
    def respond_incorrectly(request: Request) -> bool:
        unit = "bytes 0-1/" if name == "Content-Range" else ""
        request.respond(503 if name == "Retry-After" else 206, b"", **{name: unit + "9" * 5000})
        request.drop()
        return True

    server.faults = [on("GET /api/v1/blobs", respond_incorrectly, times=3)]
    deployment = server.deploy(bundle.data("1"))
    device.start()
    assert device.wait_for_end(deployment)["state"] == "succeeded"
    assert "Traceback" not in device.log_text()


# Times that are before year 1 or after year 9999 in UTC.
EXTREME_TIMES = ("0001-01-01T00:00:00+23", "9999-12-31T23:59:59-23")


def test_responses_of_unexpected_types_do_not_stop_the_agent(server: FakeServer, device: Device) -> None:
    invalid_values = [None, 7, "text", [{}], DEEP]
    responses = [
        *({"state": invalid, "interval_seconds": 1, "commands": invalid} for invalid in invalid_values),
        *(
            {"state": "accepted", "interval_seconds": 1, "commands": [invalid, {"id": invalid, "kind": invalid}]}
            for invalid in invalid_values
        ),
        *({"error": {"code": "sequence_used", "next_sequence": invalid}} for invalid in invalid_values),
        *({"error": {"code": "clock_skew", "server_time": invalid, "message": invalid}} for invalid in invalid_values),
        *({"error": {"code": "clock_skew", "server_time": f"{moment}:59"}} for moment in EXTREME_TIMES),
        *({"error": invalid} for invalid in invalid_values),
        *invalid_values,
    ]
    remaining = list(responses)

    def respond_incorrectly(request: Request) -> bool:
        if not remaining:
            return False
        response = remaining.pop(0)
        is_error = isinstance(response, dict) and "error" in response
        request.respond(409 if is_error else 200, json.dumps(response).encode())
        return True

    server.faults = [on("heartbeat|result|attributes", respond_incorrectly)]
    device.start()
    wait_for(lambda: not remaining, 120, device.log_text)
    server.faults = []
    deployment = server.deploy(bundle.data("1"))
    assert device.wait_for_end(deployment)["state"] == "succeeded"
    assert "Traceback" not in device.log.read_text(), device.log.read_text()


def test_deploy_cancel_and_deploy_in_one_response(server: FakeServer, device: Device) -> None:
    bundle_1, bundle_2 = bundle.program("1"), bundle.program("2")
    first = server.deploy(bundle_1)
    server.cancel(first)
    second = server.deploy(bundle_2)
    device.start()
    device.wait_for_end(second)
    assert (first.state, second.state) == ("cancelled", "succeeded")
    assert [report["state"] for report in first.reports].count("cancelled") == 1
    assert first.late_reports == second.late_reports == []
    device.stop()
    device.assert_consistent()


def test_cancelling_an_unknown_deployment_leaves_no_product(server: FakeServer, device: Device) -> None:
    server.command("cancel", {"deployment_id": DEPLOYMENT, "attempt": 3})
    deployment = server.deploy(bundle.data("1"))
    device.start()
    device.wait_for_end(deployment)
    wait_for(lambda: len(server.acknowledged) == 2)
    device.stop()
    assert list(device.state.products) == ["vad"]
    device.assert_consistent()
