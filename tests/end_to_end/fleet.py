"""A device with the real agent, and what people do with the real command line."""

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
    json.dump({"healthy": HEALTHY, "message": "as told", "verdict": {"segments": 3}}, file)
os.replace(path + ".new", path)
while True:
    time.sleep(1)
"""


@contextmanager
def agent_process(live: Live, directory: Path) -> Iterator[Path]:
    """A real agent in group `lab`, named after `directory`. Yields its state directory."""
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
    """Publish `demo@version`, whose program says how it is."""
    directory.mkdir()
    (directory / "run.py").write_text(PROGRAM.replace("HEALTHY", str(healthy)))
    description = {"run": {"command": ["python3", "run.py"]}, "health": {"file": "health.json", "timeout_seconds": 20}}
    (directory / "kernex.json").write_text(json.dumps(description))
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(directory), "KERNEX_SERVER": live.url, "KERNEX_TOKEN": live.token,
    }  # fmt: skip
    command = [sys.executable, "-m", "kernex_cli", "push", str(directory), "--name", "demo", "--version", version]
    pushed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert pushed.returncode == 0, pushed.stderr


def deploy(live: Live, device: str, version: str) -> str:
    """Order it. Returns the deployment's id."""
    made = live.call("POST", "/deployments", {"bundle": f"demo@{version}", "devices": [device], "groups": []})
    assert made.status_code == 201, made.text
    deployment = str(made.json()["id"])
    wait_for(lambda: live.call("GET", f"/deployments/{deployment}").json()["state"] != "planning")
    return deployment


def way_of(live: Live, deployment: str) -> dict[str, Any]:
    """The one device's way through it, as it is now."""
    row: dict[str, Any] = live.call("GET", f"/deployments/{deployment}/devices").json()["results"][0]
    return row


def end_of(live: Live, deployment: str) -> dict[str, Any]:
    """How the one device of a deployment ended, once the scheduler has ended the deployment too."""
    wait_for(lambda: live.call("GET", f"/deployments/{deployment}").json()["finished_at"])
    return way_of(live, deployment)


def device_called(live: Live, name: str) -> dict[str, Any] | None:
    found = [row for row in live.call("GET", "/devices").json()["results"] if row["name"] == name]
    return found[0] if found else None


def online(live: Live, name: str) -> str:
    """Wait until the device of that name is online. Returns its id."""
    wait_for(lambda: (device_called(live, name) or {}).get("online"))
    device = device_called(live, name)
    assert device is not None
    return str(device["id"])


def wait_for(holds: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
