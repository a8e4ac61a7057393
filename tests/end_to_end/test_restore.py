"""Disaster recovery: a backup under load is restored into an empty database, and the devices continue."""

import json
import subprocess
import sys
import threading
from pathlib import Path

from dev.postgres import find_binaries
from tests.end_to_end.fleet import (
    agent_process,
    deploy,
    device_called,
    device_deployment_of,
    final_device_deployment,
    push,
    start_deployment,
    wait_for,
    wait_until_online,
)
from tests.live import ROOT, Live, own_database, running

PROGRAMS = str(find_binaries())


def manage(live: Live, *arguments: str) -> str:
    completed = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        env=live.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def test_devices_continue_after_a_restore_and_are_not_downgraded(tmp_path: Path) -> None:
    """The backup has a deployment of version 1 that was not planned yet. After the restore it is planned and held."""
    destination = str(tmp_path / "backups")
    with own_database() as empty_url, running(tmp_path) as live, agent_process(live, tmp_path):
        device = wait_until_online(live, tmp_path.name)
        push(live, tmp_path / "one", "1", healthy=True)
        push(live, tmp_path / "two", "2", healthy=True)
        assert final_device_deployment(live, deploy(live, device, "2"))["state"] == "succeeded"
        live.stop_scheduler()
        deployment = start_deployment(live, device, "1")

        backup = json.loads(under_load(live, "backup", destination, "--json", "--programs", PROGRAMS))
        live.stop()
        live.environment["DATABASE_URL"] = empty_url
        manage(live, "restore", destination, backup["name"], "--programs", PROGRAMS)
        live.start()

        before = (device_called(live, tmp_path.name) or {}).get("last_heartbeat_at")
        wait_for(lambda: live.call("GET", f"/deployments/{deployment}").json()["state"] == "running")
        wait_for(lambda: (device_called(live, tmp_path.name) or {}).get("last_heartbeat_at") != before)
        assert live.call("GET", "/status").json()["deployments"] == {"running": 1, "paused": 0, "are_held": True}
        assert device_deployment_of(live, deployment)["state"] == "waiting"
        assert live.call("GET", f"/devices/{device}").json()["running_bundles"]["demo"]["version"] == "2"

        manage(live, "release_deployments")
        assert final_device_deployment(live, deployment)["state"] == "succeeded"


def under_load(live: Live, *arguments: str) -> str:
    """Run a management command while clients list devices. No request may fail."""
    stop = threading.Event()
    statuses: set[int] = set()

    def send_requests() -> None:
        while not stop.is_set():
            statuses.add(live.call("GET", "/devices").status_code)

    threads = [threading.Thread(target=send_requests) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        return manage(live, *arguments)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        assert statuses == {200}
