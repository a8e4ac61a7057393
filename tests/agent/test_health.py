"""The health of a release is checked during its whole life, and heartbeats report each change immediately."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.agent import bundle
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer
from tests.agent.test_health_url import responding

ROOT_OF_STATE = '"$KERNEX_STATE_DIR/../../../.."'
# Fails while the file `sick` exists in the state directory of the agent, and hangs while `stuck` exists. It records
# when it begins and ends.
CHECK = f"""#!/bin/sh
cd {ROOT_OF_STATE}
echo begin >>checks
if test -e stuck; then exec sleep 4323; fi
sleep 0.2
echo end >>checks
if test -e sick; then echo "token=abcdef"; echo "The camera is dark."; exit 7; fi
"""
SLEEP = "import time\ntime.sleep(600)\n"
# Writes its health file again and again: not healthy while `sick` exists.
OBSERVING = """
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


def install(server: FakeServer, device: Device, deployed: bundle.Bundle) -> None:
    """Install a bundle with the first heartbeat of a device. Further heartbeats are due a minute later."""
    server.interval_seconds = 60
    deployment = server.deploy(deployed)
    if device.process is None:
        device.start()
    device.finish(deployment)
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
    """Let a heartbeat report the installed bundle. Later ones are only sent because of a change."""
    server.request_logs()
    count = len(server.heartbeats)
    assert device.stop() == 0
    device.start()
    wait_for(lambda: len(server.heartbeats) > count and reported(server), 30, device.log_text)


BUNDLES: dict[str, Callable[[], bundle.Bundle]] = {
    "command": checked,
    "file": lambda: bundle.program("1", OBSERVING),
    "http": lambda: responding("1", RESPONDS),
}


@pytest.mark.parametrize("kind", BUNDLES)
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
