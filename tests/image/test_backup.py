"""Backups made by the image: by hand, every night, and of a server that is too new."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from dev.postgres import APP, DATABASE, Postgres
from operations.database.granting import grant
from operations.database.grants import Role
from tests.image.container import Image, finished, running, until, volume
from tests.live import own_database
from tests.tools import need

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]
BINARIES_15 = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture
def server_15(tmp_path: Path) -> Iterator[Postgres]:
    """A server of the version that terraform/ and compose.yaml run."""
    need(str(BINARIES_15 / "postgres"))
    server = Postgres(tmp_path / "postgres", durable=False)
    server.binaries = BINARIES_15
    with server:
        yield server


def settings_for(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "SECRET_KEY": "x" * 60, "PUBLIC_URL": "http://127.0.0.1:8000"}


def make_database(server: Postgres, name: str = DATABASE) -> str:
    """Create and grant a database, and return its URL for `kernex_app`."""
    if name != DATABASE:
        with psycopg.connect(server.admin_url, autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{name}"')
    with psycopg.connect(server.url("doadmin", server.passwords.admin, name), autocommit=True) as admin:
        assert grant(admin, Role(APP, server.passwords.app, name), str) == []
    return server.url(APP, server.passwords.app, name)


@pytest.fixture
def settings(control_plane: Image, server_15: Postgres, tmp_path: Path) -> dict[str, str]:
    """The environment of a container whose database is migrated."""
    settings = settings_for(make_database(server_15))
    code, text = finished(control_plane, tmp_path, ["migrate"], settings)
    assert code == 0, text
    return settings


def test_a_backup_is_made_and_restored(
    control_plane: Image, server_15: Postgres, settings: dict[str, str], tmp_path: Path
) -> None:
    mounts = {"/backups": volume(tmp_path / "backups"), "/var/lib/kernex": volume(tmp_path / "bundles")}
    code, text = finished(control_plane, tmp_path, ["backup", "/backups", "--blobs"], settings, mounts)
    assert code == 0, text
    (name,) = [path.name for path in (tmp_path / "backups").glob("kernex-*")]
    empty = settings_for(make_database(server_15, "restored"))
    code, text = finished(control_plane, tmp_path, ["restore", "/backups", name], empty, mounts)
    assert code == 0, text


def test_the_nightly_backup_runs_at_its_time(control_plane: Image, settings: dict[str, str], tmp_path: Path) -> None:
    backups = volume(tmp_path / "backups")
    soon = f"{datetime.now(UTC) + timedelta(seconds=5):%H:%M:%S}"
    arguments = ["nightly", soon, "backup", "/backups"]
    with running(control_plane, tmp_path, arguments, settings, {"/backups": backups}) as nightly:
        until(lambda: bool(list(backups.glob("kernex-*/backup.json"))), nightly)
        until(lambda: nightly.text().count("next backup at") == 2, nightly)
        assert nightly.terminate() == 0


def test_a_server_that_is_too_new_is_refused_with_a_sentence(control_plane: Image, tmp_path: Path) -> None:
    """The image's pg_dump is PostgreSQL 15's; the server of the test run is newer."""
    mounts = {"/backups": volume(tmp_path / "backups")}
    with own_database() as url:
        with psycopg.connect(url) as connection:
            assert connection.info.server_version // 10_000 > 15
        assert finished(control_plane, tmp_path, ["migrate"], settings_for(url))[0] == 0
        code, text = finished(control_plane, tmp_path, ["backup", "/backups"], settings_for(url), mounts)
    assert code != 0
    assert "version mismatch" in text
    assert "Traceback" not in text
    assert list((tmp_path / "backups").iterdir()) == []


def test_it_has_the_programs_of_the_server_that_compose_runs(control_plane: Image) -> None:
    assert (control_plane.root / "usr/lib/postgresql/15/bin/pg_dump").exists()
    assert shutil.which("pg_restore", path=str(control_plane.root / "usr/bin")) is not None
