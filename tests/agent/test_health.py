"""The health of a release is checked as long as it is installed, and heartbeats report each change immediately."""

import os
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.agent import bundle, faults
from tests.agent.device import Device, as_json, wait_for
from tests.agent.server import FakeServer
from tests.agent.test_health_url import responding
from tests.agent.test_programs import FRAGILE, processes_named

ROOT_OF_STATE = '"$KERNEX_STATE_DIR/../../../.."'
# How long a stuck check sleeps. The number is different in each test process, so that it finds only its own checks.
STUCK_SECONDS = str(10**6 + os.getpid())
# Fails while the file `sick` exists in the agent's state directory, and hangs while `stuck` exists. It records its
# beginning and its end.
CHECK = f"""#!/bin/sh
cd {ROOT_OF_STATE}
exec 9>checks.lock
flock -n 9 || echo overlap >>checks
echo begin >>checks
if test -e stuck; then exec sleep {STUCK_SECONDS}; fi
sleep 0.2
echo end >>checks
if test -e sick; then echo "token=abcdef"; echo "The camera is dark."; exit 7; fi
"""
SLEEP = "import time\ntime.sleep(600)\n"
# Writes its health file continuously. It is not healthy while `sick` exists.
WRITING = """
import json, os, time
state = os.environ["KERNEX_STATE_DIR"]
path, root = os.path.join(state, "health.json"), os.path.join(state, "../../../..")
while True:
    sick = os.path.exists(os.path.join(root, "sick"))
    with open(path + ".new", "w") as file:
        json.dump({"healthy": not sick, "message": "The camera is dark." if sick else "", "verdict": {"n": 1}}, file)
    os.replace(path + ".new", path)
    time.sleep(0.1)
"""
RESPONDS = (
    "root = os.environ['KERNEX_STATE_DIR'] + '/../../../../'; sick = os.path.exists(root + 'sick'); "
    'status, body = (503 if sick else 200), b\'{"message": "The camera is dark.", "verdict": {"n": 1}}\''
)


def checked(version: str = "1", *, timeout: int = 20, interval: int = 1, text: str = SLEEP) -> bundle.Bundle:
    """Return a bundle with the health command `CHECK`."""
    health = {"command": ["./bin/check"], "timeout_seconds": timeout, "interval_seconds": interval}
    return bundle.program(version, text, more={"bin/check": CHECK}, health=health)


def install(server: FakeServer, device: Device, deployed: bundle.Bundle, interval_seconds: int = 60) -> None:
    """Install a bundle with the first heartbeat of a device. The next regular heartbeat follows after the interval."""
    server.interval_seconds = interval_seconds
    deployment = server.deploy(deployed)
    device.start()
    device.wait_for_end(deployment)
    assert deployment.state == "succeeded", device.log_text()


def reported(server: FakeServer) -> dict[str, Any]:
    """Return the entry of the last heartbeat, or an empty one."""
    entry: dict[str, Any] = server.heartbeats[-1]["running_bundles"].get("vad", {})
    return entry


def wait_until_reported(server: FakeServer, device: Device, seconds: float = 15, **fields: Any) -> dict[str, Any]:
    """Wait until a heartbeat has reported these fields, and return the entry."""
    wait_for(lambda: reported(server).items() >= fields.items(), seconds, device.log_text)
    return reported(server)


def report_health_of(server: FakeServer, device: Device) -> None:
    """Restart the agent, so that a heartbeat reports the installed bundle. Later ones are sent only after a change."""
    server.request_logs()
    count = len(server.heartbeats)
    assert device.stop() == 0
    device.start()
    wait_for(lambda: len(server.heartbeats) > count and reported(server), 30, device.log_text)


BUNDLES: dict[str, Callable[[], bundle.Bundle]] = {
    "command": checked,
    "file": lambda: bundle.program("1", WRITING),
    "http": lambda: responding("1", RESPONDS),
}


@pytest.mark.parametrize(
    "kind", ["command", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("file", "http"))]
)
def test_a_change_of_health_is_reported_immediately(server: FakeServer, device: Device, kind: str) -> None:
    install(server, device, BUNDLES[kind]())
    report_health_of(server, device)
    wait_until_reported(server, device, healthy=True, restarts=0)
    (device.state_dir / "sick").touch()
    entry = wait_until_reported(server, device, healthy=False)
    assert "The camera is dark." in entry["message"]
    assert "abcdef" not in entry["message"]
    assert server.heartbeats[-1]["status"] == "degraded"
    if kind != "command":
        assert entry["verdict"] == {"n": 1}
    (device.state_dir / "sick").unlink()
    assert "message" not in wait_until_reported(server, device, healthy=True)


def test_a_check_that_hangs_is_killed_and_fails(server: FakeServer, device: Device) -> None:
    """In the meantime, the program is supervised, and no other check begins. The shorter time limit applies."""
    install(server, device, checked(timeout=3))
    (device.state_dir / "stuck").touch()
    wait_for(lambda: len(processes_named("sleep", STUCK_SECONDS)) == 1, 20, device.log_text)
    (program,) = {pid for pid in device.pids() if is_python(pid)}
    os.kill(program, signal.SIGKILL)
    wait_for(lambda: device.pids() not in (set(), {program}), 20, device.log_text)
    wait_until_reported(server, device, healthy=False, restarts=1)
    wait_for(lambda: health_in_status(device)["message"] == TOOK_TOO_LONG, 20, lambda: health_in_status(device))
    assert len(processes_named("sleep", STUCK_SECONDS)) <= 1
    (device.state_dir / "stuck").unlink()
    wait_until_reported(server, device, healthy=True)
    assert processes_named("sleep", STUCK_SECONDS) == []


TOOK_TOO_LONG = "The health command took longer than 3 s."


def health_in_status(device: Device) -> dict[str, Any]:
    health: dict[str, Any] = as_json(device.run("status", "--json").stdout)["products"]["vad"]["health"]
    return health


def is_python(pid: int) -> bool:
    return b"run.py" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_checks_never_overlap(server: FakeServer, device: Device) -> None:
    """Deploying the same bundle again suspends the repeated checks and checks it once."""
    install(server, device, bundle_1 := checked())
    server.interval_seconds = 1
    deployment = server.deploy(bundle_1)
    report_health_of(server, device)
    device.wait_for_end(deployment)
    lines = (device.state_dir / "checks").read_text().split()
    wait_for(lambda: len((device.state_dir / "checks").read_text().split()) > len(lines) + 8, 40)
    assert "overlap" not in (device.state_dir / "checks").read_text()


@pytest.mark.parametrize("end", ["killed", "stopped", "replaced"])
def test_no_process_of_a_check_survives(server: FakeServer, device: Device, end: str) -> None:
    """Replacing a release does not wait for a check that hangs. After the agent was killed, the next agent kills it."""
    install(server, device, checked(timeout=60), interval_seconds=1)
    (device.state_dir / "stuck").touch()
    wait_for(lambda: len(processes_named("sleep", STUCK_SECONDS)) == 1, 20, device.log_text)
    if end == "killed":
        device.kill()
        (device.state_dir / "stuck").unlink()
        device.start()
        wait_for(lambda: processes_named("sleep", STUCK_SECONDS) == [], 20)
        return
    started_at = time.monotonic()
    if end == "stopped":
        assert device.stop() == 0
    else:
        device.wait_for_end(server.deploy(bundle.data("2")))
    assert processes_named("sleep", STUCK_SECONDS) == []
    assert time.monotonic() - started_at < 40


@pytest.mark.parametrize("is_once", [True, False])
def test_an_agent_checks_health_when_it_starts(server: FakeServer, device: Device, is_once: bool) -> None:
    """The first heartbeat reports the current health, even if the next check would be due much later."""
    install(server, device, checked(interval=3600))
    assert device.stop() == 0
    (device.state_dir / "sick").touch()
    count = len(server.heartbeats)
    if is_once:
        device.once()
    else:
        device.start()
        wait_for(lambda: len(server.heartbeats) > count, 30)
    wait_until_reported(server, device, healthy=False)
    if is_once:
        assert len(server.heartbeats) == count + 1


def test_a_release_is_healthy_after_its_gate_until_the_next_check(server: FakeServer, device: Device) -> None:
    install(server, device, checked(interval=3600))
    (device.state_dir / "sick").touch()
    checks = (device.state_dir / "checks").read_text()
    server.interval_seconds = 1
    time.sleep(3)
    assert (device.state_dir / "checks").read_text() == checks
    assert health_in_status(device)["healthy"]


def test_a_flapping_program_does_not_flood_the_server(server: FakeServer, device: Device) -> None:
    """Each restart is reported early, but at most one early heartbeat is sent every 5 seconds."""
    device.options["BAKE_SECONDS"] = "0"
    install(server, device, bundle.program("1", FRAGILE))
    report_health_of(server, device)
    count, started_at = len(server.heartbeats), time.monotonic()
    (device.state_dir / "broken").touch()
    entry = wait_until_reported(server, device, healthy=False)
    assert time.monotonic() - started_at < 5
    assert entry["message"] in {"The program is not running: exit code 3.", "The program is not running."}
    wait_for(lambda: reported(server)["restarts"] >= 3, 40, device.log_text)
    arrived = [request.at for request in server.requests_to("/heartbeat$")][count:]
    assert len(arrived) >= 2
    assert min(after - before for before, after in pairwise(arrived)) > 4


def test_a_heartbeat_that_was_throttled_is_not_sent_early(server: FakeServer, device: Device) -> None:
    install(server, device, bundle.program("1", WRITING))
    report_health_of(server, device)
    server.faults.append(faults.on("/heartbeat$", faults.status(429, Retry_After="8"), times=1))
    count = len(server.requests_to("/heartbeat$"))
    (device.state_dir / "sick").touch()
    wait_for(lambda: len(server.requests_to("/heartbeat$")) > count, 15, device.log_text)
    (device.state_dir / "sick").unlink()  # another change since the refused heartbeat
    wait_for(lambda: len(server.requests_to("/heartbeat$")) > count + 1, 20, device.log_text)
    first, second = [request.at for request in server.requests_to("/heartbeat$")][count : count + 2]
    assert second - first >= 8
    wait_until_reported(server, device, healthy=True)


def test_status_shows_the_health_of_bundles(server: FakeServer, device: Device) -> None:
    install(server, device, bundle.program("1", WRITING))
    wait_for(lambda: "  healthy\n" in device.run("status").stdout, 20)
    (device.state_dir / "sick").touch()
    expected = "  not healthy: The camera is dark.\n"
    wait_for(lambda: expected in device.run("status").stdout, 20, lambda: device.run("status").stdout)
    assert health_in_status(device) == {"healthy": False, "restarts": 0, "message": "The camera is dark."}
    device.kill()
    assert health_in_status(device) is None
