"""Clocks that jump: signatures use the server's time, and durations use the monotonic clock."""

import re
from pathlib import Path

import pytest

from agent.server.clock import Clock
from tests.agent import bundle
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer

AGENT = Path(__file__).resolve().parent.parent.parent / "agent"
# The modules that may use the time of day: for signatures, for the name of a damaged journal, and for the age of files.
# All other times are durations, including the observation time, and use the monotonic clock.
USERS_OF_WALL_CLOCK = {"server/clock.py", "jobs/journal.py", "local_requests.py", "programs/logs.py"}


def test_durations_use_the_monotonic_clock() -> None:
    pattern = re.compile(r"\btime\.time\(|datetime\.now\(")
    users = {str(path.relative_to(AGENT)) for path in AGENT.rglob("*.py") if pattern.search(path.read_text())}
    assert users <= USERS_OF_WALL_CLOCK


@pytest.mark.parametrize("text", ["2026-01-01T00:00:00", "yesterday", "", None, 7])
def test_a_date_without_a_time_zone_is_ignored(text: object) -> None:
    clock = Clock()
    before = clock.now()
    assert not clock.synchronize(text)
    assert clock.now() - before in {0, 1}


def test_a_clock_that_jumps_while_the_agent_runs_is_corrected(server: FakeServer, device: Device) -> None:
    device.start()
    for offset in (5000.0, -86_400.0, 0.0):
        server.clock_offset = offset
        count = len(server.heartbeats)
        wait_for(lambda count=count: len(server.heartbeats) > count + 1, 30, device.log_text)  # type: ignore[misc]
    deployment = server.deploy(bundle.data("1"))
    device.wait_for_end(deployment)
    assert deployment.state == "succeeded"
