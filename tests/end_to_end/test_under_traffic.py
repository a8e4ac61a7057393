"""A control plane at work is migrated, and its database restarts: devices notice a wait at most."""

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
from tests.operations.places import Place, manage
from tests.tools import need
from tests.traffic import PATIENCE_SECONDS, Traffic, wait, wait_for_answers

MIGRATIONS = [
    path.relative_to(ROOT)
    for path in sorted([*ROOT.glob("*/migrations/0*.py"), *ROOT.glob("foundation/*/migrations/0*.py")])
    if not path.name.startswith("0001_")
]


class Fleet:
    """Devices that report and devices that come, and an operator who looks and makes groups."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.token = live.enrolment_token(uses=1_000_000)
        self.reporting = [Machine(live).register(self.token) for _ in range(2)]
        # What the server has said is done.
        self.registered: list[UUID] = []
        self.groups: list[str] = []

    def enrol(self) -> requests.Response:
        answer = Machine(self.live).enrol(self.token)
        if answer.ok:
            self.registered.append(UUID(answer.json()["device_id"]))
        return answer

    def make_group(self) -> requests.Response:
        name = f"group-{secrets.token_hex(8)}"
        answer = self.live.call("POST", "/groups", {"name": name})
        if answer.ok:
            self.groups.append(name)
        return answer

    def look(self) -> requests.Response:
        return self.live.call("GET", "/deployments?page_size=5")

    def traffic(self) -> Traffic:
        return Traffic(*[machine.beat for machine in self.reporting], self.enrol, self.make_group, self.look)


# -- Migrations


def release_before(migration: Path, to: Path) -> Path:
    """The code that was at work when this migration came, from the project's history."""
    git = [need("git"), "-C", str(ROOT)]
    added = ["log", "--diff-filter=A", "--format=%H", "--", str(migration)]
    found = subprocess.run([*git, *added], capture_output=True, text=True, check=False).stdout.split()
    if not found:
        pytest.skip(f"the project's history is not here, which says what was before {migration}")
    archive = subprocess.run([*git, "archive", f"{found[-1]}^"], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(to, filter="data")
    return to


@pytest.mark.parametrize("migration", MIGRATIONS, ids=str)
def test_the_release_before_serves_on_while_migrations_run(migration: Path, tmp_path: Path) -> None:
    with running(tmp_path, code=release_before(migration, tmp_path / "before")) as live:
        with Fleet(live).traffic() as traffic:
            wait_for_answers(traffic)
            ran = manage(live.environment, "migrate")
            assert ran.code == 0, ran.err
            assert migration.stem in ran.out
            wait_for_answers(traffic)
        assert (traffic.lost, traffic.put_off) == ([], 0)


# -- The database restarts


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    with Postgres(tmp_path / "postgres") as server:
        yield server


@pytest.fixture
def live(postgres: Postgres, tmp_path: Path) -> Iterator[Live]:
    place, port = Place(postgres).make(), free_port()
    assert place.grant().code == 0
    environment = place.environment(
        DATABASE_POOL="4", PUBLIC_URL=f"http://127.0.0.1:{port}", STORAGE_DIR=str(tmp_path / "storage")
    )
    live = Live(tmp_path, environment, port)
    live.prepare()
    try:
        live.start()
        yield live
    finally:
        live.stop()


@pytest.mark.parametrize("order", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "crash"])
def test_a_restarted_database_has_all_that_was_answered(postgres: Postgres, live: Live, order: signal.Signals) -> None:
    """Heartbeats alone may be forgotten by a crash: they commit asynchronously, and the next one says it all again."""
    fleet = Fleet(live)
    with fleet.traffic() as traffic:
        wait_for_answers(traffic)
        assert postgres.process is not None
        postgres.process.send_signal(order)
        postgres.process.wait(PATIENCE_SECONDS)
        wait(traffic, lambda: traffic.put_off > 0)
        answered = [machine.sequence for machine in fleet.reporting]
        postgres.start()
        wait_for_answers(traffic)
    assert traffic.lost == []
    with psycopg.connect(live.environment["DATABASE_URL"]) as session:
        known = {row[0] for row in session.execute("SELECT id FROM devices_device")}
        groups = {row[0] for row in session.execute("SELECT name FROM devices_group")}
    assert set(fleet.registered) <= known
    assert set(fleet.groups) <= groups
    assert all(machine.sequence > before for machine, before in zip(fleet.reporting, answered, strict=True))
