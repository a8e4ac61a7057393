"""The whole of it: the command line publishes, the control plane deploys, the real agent installs and says so."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture
def agent(live: Live, tmp_path: Path) -> Iterator[Path]:
    """A real agent process in group `lab`. Yields its state directory."""
    state = tmp_path / "device"
    environment = {
        "PATH": os.environ["PATH"], "KERNEX_AGENT_SERVER": live.url, "KERNEX_AGENT_STATE_DIR": str(state),
        "KERNEX_AGENT_TOKEN": live.enrolment_token(), "KERNEX_AGENT_DEVICE_TYPE": "edge",
        "KERNEX_AGENT_NAME": tmp_path.name,
    }  # fmt: skip
    with (tmp_path / "agent.log").open("wb") as log:
        command = [sys.executable, "-m", "agent", "run"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    yield state
    process.terminate()
    assert process.wait(30) == 0, (tmp_path / "agent.log").read_text()


def push(live: Live, directory: Path, version: str, healthy: bool) -> None:
    directory.mkdir()
    (directory / "run.py").write_text(PROGRAM.replace("HEALTHY", str(healthy)))
    description = {"run": {"command": ["python3", "run.py"]}, "health": {"file": "health.json", "timeout_seconds": 20}}
    (directory / "kernex.json").write_text(json.dumps(description))
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(directory), "KERNEX_SERVER": live.url, "KERNEX_TOKEN": live.token,
    }  # fmt: skip
    command = [sys.executable, "-m", "kernex", "push", str(directory), "--name", "demo", "--version", version]
    pushed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert pushed.returncode == 0, pushed.stderr


def deploy(live: Live, device: str, version: str) -> dict[str, Any]:
    made = live.call("POST", "/deployments", {"bundle": f"demo@{version}", "devices": [device], "groups": []})
    assert made.status_code == 201, made.text
    for _ in range(600):
        rows = live.call("GET", f"/deployments/{made.json()['id']}/devices").json()["results"]
        if rows[0]["state"] in {"succeeded", "failed", "rolled_back", "rejected", "timed_out", "cancelled"}:
            ended: dict[str, Any] = rows[0]
            return ended
        time.sleep(0.1)
    raise AssertionError(rows)


def test_a_good_version_runs_and_a_bad_one_is_refused(live: Live, agent: Path, tmp_path: Path) -> None:
    for _ in range(100):
        found = [row for row in live.call("GET", "/devices").json()["results"] if row["name"] == tmp_path.name]
        if found and found[0]["online"]:
            break
        time.sleep(0.1)
    device = found[0]["id"]

    push(live, tmp_path / "one", "1", healthy=True)
    assert deploy(live, device, "1")["state"] == "succeeded"
    push(live, tmp_path / "two", "2", healthy=False)
    refused = deploy(live, device, "2")
    assert (refused["state"], refused["reason_code"]) == ("rolled_back", "unhealthy")

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        running = live.call("GET", f"/devices/{device}").json()["running_bundles"]["demo"]
        if running["version"] == "1" and running["healthy"]:
            break
        time.sleep(0.2)
    assert running["version"] == "1"
    assert running["verdict"] == {"segments": 3}
    assert sorted(path.name for path in (agent / "blobs").iterdir()) == []
