"""The drill: back up under load, lose the database, restore into an empty one, and the devices go on."""

import json
import subprocess
import sys
import threading
from pathlib import Path

from dev.postgres import find_binaries
from tests.end_to_end.fleet import agent_process, deploy, device_called, end_of, online, push, wait_for, way_of
from tests.live import ROOT, Live, own_database, running

PROGRAMS = str(find_binaries())


def manage(live: Live, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *words],
        env=live.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_devices_go_on_after_a_restore_and_are_not_downgraded(tmp_path: Path) -> None:
    """Version 2 is rolled out after the backup; the restored database still orders version 1, and is held."""
    place = str(tmp_path / "backups")
    with own_database() as empty, running(tmp_path) as live, agent_process(live, tmp_path):
        device = online(live, tmp_path.name)
        push(live, tmp_path / "one", "1", healthy=True)
        push(live, tmp_path / "two", "2", healthy=True)
        assert end_of(live, deploy(live, device, "2"))["state"] == "succeeded"
        live.stop_scheduler()
        order = deploy(live, device, "1")  # never offered before the backup

        backup = json.loads(under_load(live, "backup", place, "--json", "--programs", PROGRAMS))
        live.stop()
        live.environment["DATABASE_URL"] = empty
        manage(live, "restore", place, backup["name"], "--programs", PROGRAMS)
        live.start()

        before = (device_called(live, tmp_path.name) or {}).get("last_heartbeat_at")
        wait_for(lambda: (device_called(live, tmp_path.name) or {}).get("last_heartbeat_at") != before)
        assert live.call("GET", "/status").json()["deployments"] == {"running": 1, "are_held": True}
        assert way_of(live, order)["state"] == "waiting"
        assert live.call("GET", f"/devices/{device}").json()["running_bundles"]["demo"]["version"] == "2"

        manage(live, "release_deployments")
        assert end_of(live, order)["state"] == "succeeded"


def under_load(live: Live, *words: str) -> str:
    """Run a command while people read and the device reports; nobody sees an error."""
    stop = threading.Event()
    seen: set[int] = set()

    def load() -> None:
        while not stop.is_set():
            seen.add(live.call("GET", "/devices").status_code)

    people = [threading.Thread(target=load) for _ in range(3)]
    for person in people:
        person.start()
    try:
        return manage(live, *words)
    finally:
        stop.set()
        for person in people:
            person.join()
        assert seen == {200}
