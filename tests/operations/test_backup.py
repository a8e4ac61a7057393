"""Backup and restore on real databases: what is restored, what is refused, and how deployments are held."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dev.postgres import find_binaries
from tests.live import ROOT, Live, own_database, running

PROGRAMS = str(find_binaries())
SEED = """
import django; django.setup()
from tests.factories import make_bundle, make_deployment, make_device
from deployments.offers import offer
make_deployment(make_bundle("vad@1.0.0", {"model": b"m" * 100_000, "run": b"r"}), make_device(name="edge-1"))
assert offer() == 1
"""


def manage(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def fetch(environment: dict[str, str], query: str) -> Any:
    with psycopg.connect(environment["DATABASE_URL"]) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A control plane that has offered a bundle to one device."""
    with running(tmp_path_factory.mktemp("source")) as live:
        live.stop()
        seeded = subprocess.run(
            [sys.executable, "-c", SEED], env=live.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert seeded.returncode == 0, seeded.stderr
        yield live


@pytest.fixture(scope="module")
def backup_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backups")


@pytest.fixture(scope="module")
def backup(source: Live, backup_directory: Path) -> dict[str, Any]:
    result = manage(source.environment, "backup", str(backup_directory), "--blobs", "--json", "--programs", PROGRAMS)
    assert result.returncode == 0, result.stderr
    description: dict[str, Any] = json.loads(result.stdout)
    return description


@pytest.fixture
def empty_environment(source: Live, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of another machine with an empty database and an empty disk."""
    with own_database() as url:
        yield {**source.environment, "DATABASE_URL": url, "STORAGE_DIR": str(tmp_path / "storage")}


def restore(
    empty_environment: dict[str, str], backup_directory: Path, name: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    return manage(empty_environment, "restore", str(backup_directory), name, "--programs", PROGRAMS, *arguments)


def test_it_is_recorded_as_an_event(source: Live, backup: dict[str, Any]) -> None:
    event_query = "SELECT kind, actor, data->>'name' FROM events_event WHERE kind = 'backup.made'"
    assert fetch(source.environment, event_query) == ("backup.made", "manage.py", backup["name"])


def test_a_read_only_database_is_backed_up(source: Live, tmp_path: Path) -> None:
    url = source.environment["DATABASE_URL"] + "?options=-c%20default_transaction_read_only%3Don"
    result = manage({**source.environment, "DATABASE_URL": url}, "backup", str(tmp_path), "--programs", PROGRAMS)
    assert result.returncode == 0, result.stderr
    assert "could not be recorded as an event" in result.stderr
    assert len(list(tmp_path.glob("*/backup.json"))) == 1


def test_a_database_without_tables_is_refused(empty_environment: dict[str, str], tmp_path: Path) -> None:
    result = manage(empty_environment, "backup", str(tmp_path / "backups"), "--programs", PROGRAMS)
    assert result.returncode == 1
    assert "run `python manage.py migrate`" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "backups").exists()


def test_a_missing_backup_is_reported(
    empty_environment: dict[str, str], backup_directory: Path, backup: dict[str, Any]
) -> None:
    result = restore(empty_environment, backup_directory, "kernex-20200101T000000Z")
    assert result.returncode == 1
    assert "kernex-20200101T000000Z has no backup.json" in result.stderr
    assert "Leave the name out" in result.stderr


def test_without_a_name_complete_backups_are_listed(
    source: Live, backup_directory: Path, backup: dict[str, Any]
) -> None:
    (backup_directory / "kernex-20990101T000000Z").mkdir(exist_ok=True)  # an incomplete backup
    (backup_directory / "lost+found").mkdir(exist_ok=True)
    listed = manage(source.environment, "restore", str(backup_directory))
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, f"{backup['name']}\n", "")
    listed = manage(source.environment, "restore", str(backup_directory), "--json")
    assert json.loads(listed.stdout) == {"backups": [backup["name"]]}
    without_backups = manage(source.environment, "restore", str(backup_directory / "lost+found"))
    assert (without_backups.returncode, without_backups.stdout) == (0, "")
    assert "has no complete backup" in without_backups.stderr
    unreadable = manage(source.environment, "restore", str(backup_directory / "nowhere"))
    assert (unreadable.returncode, "cannot be read" in unreadable.stderr) == (1, True)


def test_everything_is_restored(
    empty_environment: dict[str, str], backup_directory: Path, backup: dict[str, Any]
) -> None:
    result = restore(empty_environment, backup_directory, backup["name"])
    assert result.returncode == 0, result.stderr
    assert "Deployments are held" in result.stdout
    assert fetch(empty_environment, "SELECT name, state FROM devices_device") == ("edge-1", "accepted")
    stored = {path.name: path.stat().st_size for path in Path(empty_environment["STORAGE_DIR"]).glob("blobs/*/*")}
    assert sorted(stored.values()) == [1, 100_000]
    assert len(list((backup_directory / "blobs").glob("*/*"))) == 2
    assert list(Path(empty_environment["STORAGE_DIR"]).glob("uploads/*")) == []


def test_event_deletion_stays_revoked_from_public(
    empty_environment: dict[str, str], backup_directory: Path, backup: dict[str, Any]
) -> None:
    """A dump holds no privileges, and PostgreSQL grants EXECUTE on a new function to everyone."""
    assert restore(empty_environment, backup_directory, backup["name"]).returncode == 0
    is_public = (
        "SELECT EXISTS (SELECT FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS acl"
        " WHERE proname = 'delete_old_events' AND acl.grantee = 0)"
    )
    assert fetch(empty_environment, is_public) is False


def test_nothing_is_offered_until_deployments_are_released(
    empty_environment: dict[str, str], backup_directory: Path, backup: dict[str, Any]
) -> None:
    restore(empty_environment, backup_directory, backup["name"])
    assert fetch(empty_environment, "SELECT state, attempt FROM deployments_devicedeployment") == ("waiting", 2)
    assert fetch(empty_environment, "SELECT count(*) FROM devices_command WHERE withdrawn_at IS NULL") == 0
    assert manage(empty_environment, "run_scheduler", "--once").returncode == 0
    assert fetch(empty_environment, "SELECT state FROM deployments_devicedeployment") == "waiting"
    assert manage(empty_environment, "release_deployments").returncode == 0
    assert manage(empty_environment, "run_scheduler", "--once").returncode == 0
    assert fetch(empty_environment, "SELECT state, attempt FROM deployments_devicedeployment") == ("offered", 2)
    assert fetch(empty_environment, "SELECT id > 10000000 FROM devices_command WHERE withdrawn_at IS NULL") is True
    again = manage(empty_environment, "release_deployments")
    assert (again.returncode, "not held" in again.stderr) == (1, True)


def test_a_database_with_tables_is_refused(source: Live, backup_directory: Path, backup: dict[str, Any]) -> None:
    result = restore(source.environment, backup_directory, backup["name"])
    assert result.returncode == 1
    assert "restore into an empty database" in result.stderr
    assert "Traceback" not in result.stderr
    assert fetch(source.environment, "SELECT count(*) FROM deployments_hold") == 0


def test_a_database_with_open_connections_is_refused(
    empty_environment: dict[str, str], backup_directory: Path, backup: dict[str, Any]
) -> None:
    """A running process could offer deployments that are not held yet."""
    with psycopg.connect(empty_environment["DATABASE_URL"]):
        result = restore(empty_environment, backup_directory, backup["name"])
    assert result.returncode == 1
    assert "stop web servers and schedulers" in result.stderr
    assert fetch(empty_environment, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


@pytest.mark.parametrize("name", ["backup.json", "database.dump", "blobs.txt"])
def test_a_damaged_or_incomplete_backup_changes_nothing(
    empty_environment: dict[str, str], backup_directory: Path, backup: dict[str, Any], tmp_path: Path, name: str
) -> None:
    damaged = tmp_path / "damaged" / "b"
    damaged.mkdir(parents=True)
    for file in (backup_directory / backup["name"]).iterdir():
        content = file.read_bytes()
        if file.name == name == "backup.json":
            continue
        (damaged / file.name).write_bytes(content[:-1] + b"?" if file.name == name else content)
    result = restore(empty_environment, damaged.parent, "b")
    assert result.returncode == 1
    assert "backup.json" in result.stderr
    assert "Traceback" not in result.stderr
    assert fetch(empty_environment, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


def test_missing_blobs_are_reported(
    empty_environment: dict[str, str], backup_directory: Path, backup: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "b").symlink_to(backup_directory / backup["name"])
    result = restore(empty_environment, tmp_path / "bare", "b")
    assert result.returncode == 1
    assert "2 blobs are in neither storage nor backup" in result.stderr


def test_a_blob_with_other_content_is_not_restored(
    empty_environment: dict[str, str], backup_directory: Path, backup: dict[str, Any], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "b").symlink_to(backup_directory / backup["name"])
    for blob in backup_directory.glob("blobs/*/*"):
        copy = other / blob.relative_to(backup_directory)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(b"x" * blob.stat().st_size)
    result = restore(empty_environment, other, "b")
    assert "2 blobs are in neither" in result.stderr
    assert list(Path(empty_environment["STORAGE_DIR"]).glob("blobs/*/*")) == []


@pytest.mark.parametrize("is_swapped", [False, True], ids=["gone", "swapped"])
def test_a_blob_that_storage_lost_is_reported(source: Live, tmp_path: Path, is_swapped: bool) -> None:
    blob = max(Path(source.environment["STORAGE_DIR"]).glob("blobs/*/*"), key=lambda path: path.stat().st_size)
    kept = blob.rename(tmp_path / "kept")
    if is_swapped:
        blob.write_bytes(b"x" * 100_000)
    try:
        result = manage(source.environment, "backup", str(tmp_path / "b"), "--blobs", "--json", "--programs", PROGRAMS)
    finally:
        kept.rename(blob)
    assert result.returncode == 1
    assert blob.name in result.stderr
    assert "Traceback" not in result.stderr
    description = json.loads(result.stdout)
    assert description["blobs"]["lost"] == [blob.name]
    assert (tmp_path / "b" / description["name"] / "backup.json").exists()
    assert len(list((tmp_path / "b").glob("blobs/*/*"))) == 1


def test_deployments_can_be_held_after_a_providers_restore(source: Live) -> None:
    assert manage(source.environment, "hold_deployments", "restored by the provider").returncode == 0
    again = manage(source.environment, "hold_deployments", "a second reason")
    assert "restored by the provider" in again.stdout
    assert fetch(source.environment, "SELECT state, attempt FROM deployments_devicedeployment") == ("waiting", 2)
    assert manage(source.environment, "release_deployments").returncode == 0


def test_missing_programs_are_reported(source: Live, tmp_path: Path) -> None:
    result = manage(source.environment, "backup", str(tmp_path), "--programs", str(tmp_path))
    assert result.returncode == 1
    assert "pg_dump was not found" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unwritable_destination_is_reported(source: Live, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = manage(source.environment, "backup", str(tmp_path / "file"), "--programs", PROGRAMS)
    assert result.returncode == 1
    assert "cannot be written" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_bucket_without_a_key_is_reported(source: Live) -> None:
    result = manage(source.environment, "backup", "s3://backups", "--programs", PROGRAMS)
    assert (result.returncode, "STORAGE_BUCKET" in result.stderr) == (1, True)
