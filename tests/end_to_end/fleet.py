"""A real agent as a device, and deployments through the real command line and API."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.live import ROOT, Live

PROGRAM = """
import json, os, sys, time
path = os.path.join(os.environ["KERNEX_STATE_DIR"], "health.json")
with open(path + ".new", "w") as file:
    json.dump({"healthy": HEALTHY, "message": "set by the test", "verdict": {"segments": 3}}, file)
os.replace(path + ".new", path)
while True:
    time.sleep(1)
"""


@contextmanager
def agent_process(live: Live, directory: Path) -> Iterator[Path]:
    """Run a real agent in the group `lab`, named after `directory`. Yield its state directory."""
    state = directory / "device"
    environment = {
        "PATH": os.environ["PATH"], "KERNEX_AGENT_SERVER": live.url, "KERNEX_AGENT_STATE_DIR": str(state),
        "KERNEX_AGENT_TOKEN": live.enrolment_token(), "KERNEX_AGENT_DEVICE_TYPE": "edge",
        "KERNEX_AGENT_NAME": directory.name,
    }  # fmt: skip
    with (directory / "agent.log").open("wb") as log:
        command = [sys.executable, "-m", "agent", "run"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield state
    finally:
        process.terminate()
        code = process.wait(30)
    assert code == 0, (directory / "agent.log").read_text()


def push(live: Live, directory: Path, version: str, healthy: bool) -> None:
    """Publish `demo@version`, whose program reports `healthy` in its health file."""
    push_program(live, directory, version, PROGRAM.replace("HEALTHY", str(healthy)), timeout_seconds=20)


def push_program(live: Live, directory: Path, version: str, program: str, timeout_seconds: int) -> None:
    """Publish `demo@version` with this program, which has `timeout_seconds` to report its health."""
    directory.mkdir()
    (directory / "run.py").write_text(program)
    health = {"file": "health.json", "timeout_seconds": timeout_seconds}
    description = {"run": {"command": ["python3", "run.py"]}, "health": health}
    (directory / "kernex.json").write_text(json.dumps(description))
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(directory), "KERNEX_SERVER": live.url, "KERNEX_TOKEN": live.token,
    }  # fmt: skip
    command = [sys.executable, "-m", "kernex_cli", "push", str(directory), "--name", "demo", "--version", version]
    completed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr


def start_deployment(live: Live, device: str, version: str, max_attempts: int = 1) -> str:
    """Start a deployment of `demo@version` to a device. Return its id. It is not planned yet."""
    body = {"bundle": f"demo@{version}", "devices": [device], "groups": [], "max_attempts": max_attempts}
    created = live.call("POST", "/deployments", body)
    assert created.status_code == 201, created.text
    return str(created.json()["id"])


def deploy(live: Live, device: str, version: str) -> str:
    """Deploy `demo@version` to a device. Return the deployment's id once it is planned."""
    deployment = start_deployment(live, device, version)
    wait_for(lambda: live.call("GET", f"/deployments/{deployment}").json()["state"] != "planning")
    return deployment


def device_deployment_of(live: Live, deployment: str) -> dict[str, Any]:
    """Return the only device deployment of a deployment, as it is now."""
    device_deployment: dict[str, Any] = live.call("GET", f"/deployments/{deployment}/devices").json()["results"][0]
    return device_deployment


def final_device_deployment(live: Live, deployment: str) -> dict[str, Any]:
    """Wait until a deployment has finished. Return its only device deployment."""
    wait_for(lambda: live.call("GET", f"/deployments/{deployment}").json()["finished_at"])
    return device_deployment_of(live, deployment)


def device_called(live: Live, name: str) -> dict[str, Any] | None:
    devices: list[dict[str, Any]] = live.call("GET", "/devices").json()["results"]
    return next((device for device in devices if device["name"] == name), None)


def wait_until_online(live: Live, name: str) -> str:
    """Wait until the device of that name is online. Return its id."""
    wait_for(lambda: (device_called(live, name) or {}).get("online"))
    device = device_called(live, name)
    assert device is not None
    return str(device["id"])


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)
