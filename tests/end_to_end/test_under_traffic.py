"""Migrations and database restarts under load cause delays, but no errors."""

import secrets
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
import requests

from dev.postgres import Postgres, free_port
from tests.live import ROOT, Live, running
from tests.machine import Machine
from tests.operations.databases import Database, manage
from tests.tools import need
from tests.traffic import PATIENCE_SECONDS, Traffic, wait, wait_for_responses

# The commit of each release that installations may update from.
RELEASES = {"0.1.0-alpha": "9f82ab7c33b0333ede175b1d444b8cf88d0dfba2"}


class Fleet:
    """The clients: devices that report or enrol, and an operator who lists deployments and creates groups."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.token = live.enrolment_token(uses=1_000_000)
        self.reporting = [Machine(live).register(self.token) for _ in range(2)]
        # What the server has confirmed.
        self.registered: list[UUID] = []
        self.groups: list[str] = []

    def enrol(self) -> requests.Response:
        response = Machine(self.live).enrol(self.token)
        if response.ok:
            self.registered.append(UUID(response.json()["device_id"]))
        return response

    def create_group(self) -> requests.Response:
        name = f"group-{secrets.token_hex(8)}"
        response = self.live.call("POST", "/groups", {"name": name})
        if response.ok:
            self.groups.append(name)
        return response

    def list_deployments(self) -> requests.Response:
        return self.live.call("GET", "/deployments?page_size=5")

    def traffic(self) -> Traffic:
        return Traffic(
            *[machine.beat for machine in self.reporting], self.enrol, self.create_group, self.list_deployments
        )


def extract_code(release: str, directory: Path) -> Path:
    """Extract the code of a release from the project's history. Return its directory."""
    command = [need("git"), "-C", str(ROOT), "archive", RELEASES[release]]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip("the project's history is not available")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(directory, filter="data")
    return directory


@pytest.mark.parametrize("release", RELEASES)
def test_a_previous_release_keeps_serving_while_migrations_run(release: str, tmp_path: Path) -> None:
    with running(tmp_path, code=extract_code(release, tmp_path / "release")) as live:
        with Fleet(live).traffic() as traffic:
            wait_for_responses(traffic)
            migrated = manage(live.environment, "migrate")
            assert migrated.code == 0, migrated.err
            assert "Applying" in migrated.out
            wait_for_responses(traffic)
        assert (traffic.lost, traffic.deferred) == ([], 0)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    with Postgres(tmp_path / "postgres") as server:
        yield server


@pytest.fixture
def live(postgres: Postgres, tmp_path: Path) -> Iterator[Live]:
    database, port = Database(postgres).make(), free_port()
    assert database.grant().code == 0
    environment = database.environment(
        DATABASE_POOL="4", PUBLIC_URL=f"http://127.0.0.1:{port}", STORAGE_DIR=str(tmp_path / "storage")
    )
    live = Live(tmp_path, environment, port)
    live.prepare()
    try:
        live.start()
        yield live
    finally:
        live.stop()


@pytest.mark.parametrize("stop_signal", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "crash"])
def test_a_restarted_database_has_everything_that_was_confirmed(
    postgres: Postgres, live: Live, stop_signal: signal.Signals
) -> None:
    """A crash may lose only heartbeats: they commit asynchronously, and the next one repeats everything."""
    fleet = Fleet(live)
    with fleet.traffic() as traffic:
        wait_for_responses(traffic)
        assert postgres.process is not None
        postgres.process.send_signal(stop_signal)
        postgres.process.wait(PATIENCE_SECONDS)
        wait(traffic, lambda: traffic.deferred > 0)
        sequences = [machine.sequence for machine in fleet.reporting]
        postgres.start()
        wait_for_responses(traffic)
    assert traffic.lost == []
    with psycopg.connect(live.environment["DATABASE_URL"]) as session:
        device_ids = {row[0] for row in session.execute("SELECT id FROM devices_device")}
        groups = {row[0] for row in session.execute("SELECT name FROM devices_group")}
    assert set(fleet.registered) <= device_ids
    assert set(fleet.groups) <= groups
    assert all(machine.sequence > before for machine, before in zip(fleet.reporting, sequences, strict=True))
