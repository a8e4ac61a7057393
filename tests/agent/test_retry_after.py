"""Every kind of request waits as long as `Retry-After` says after 429 and 503, and then succeeds."""

import pytest

from tests.agent import bundle, faults
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer

WAIT_SECONDS = 3
REQUESTS = {
    "registration": "POST .*/register$",
    "heartbeat": "POST .*/heartbeat$",
    "attributes": "PUT .*/attributes$",
    "report": "POST .*/result$",
    "manifest": "GET .*/trust/targets/",
    "blob": "GET .*/blobs/",
    "log batch": "POST .*/batches$",
}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("pattern", REQUESTS.values(), ids=REQUESTS.keys())
def test_a_request_waits_as_long_as_retry_after_says(
    server: FakeServer, device: Device, pattern: str, status: int
) -> None:
    body = b'{"error": {"code": "throttled", "message": "Too many requests."}}'
    server.faults.append(faults.on(pattern, faults.status(status, body, Retry_After=str(WAIT_SECONDS)), times=1))
    log_request = server.request_logs()
    deployment = server.deploy(bundle.data("1"))
    device.start()
    device.wait_for_end(deployment)
    assert deployment.state == "succeeded", device.log_text()
    wait_for(lambda: log_request.state == "complete", 30, device.log_text)
    wait_for(lambda: len(server.requests_to(pattern)) >= 2, 30, device.log_text)
    first, second = server.requests_to(pattern)[:2]
    assert second.at - first.at >= WAIT_SECONDS
