"""Backup and restore on real databases: what comes back, what is refused, and how careful it is with the fleet."""

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


def manage(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *words], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )


def ask(environment: dict[str, str], query: str) -> Any:
    with psycopg.connect(environment["DATABASE_URL"]) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A control plane in which one device was offered a bundle."""
    with running(tmp_path_factory.mktemp("source")) as live:
        live.stop()
        made = subprocess.run(
            [sys.executable, "-c", SEED], env=live.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stderr
        yield live


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backups")


@pytest.fixture(scope="module")
def backup(source: Live, place: Path) -> dict[str, Any]:
    done = manage(source.environment, "backup", str(place), "--blobs", "--json", "--programs", PROGRAMS)
    assert done.returncode == 0, done.stderr
    about: dict[str, Any] = json.loads(done.stdout)
    return about


@pytest.fixture
def empty(source: Live, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of another machine: an empty database, an empty disk."""
    with own_database() as url:
        yield {**source.environment, "DATABASE_URL": url, "STORAGE_DIR": str(tmp_path / "storage")}


def restore(empty: dict[str, str], place: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return manage(empty, "restore", str(place), name, "--programs", PROGRAMS, *words)


def test_it_is_noted_as_an_event(source: Live, backup: dict[str, Any]) -> None:
    noted = "SELECT kind, actor, data->>'name' FROM events_event WHERE kind = 'backup.made'"
    assert ask(source.environment, noted) == ("backup.made", "manage.py", backup["name"])


def test_a_database_that_only_reads_is_kept_all_the_same(source: Live, tmp_path: Path) -> None:
    url = source.environment["DATABASE_URL"] + "?options=-c%20default_transaction_read_only%3Don"
    done = manage({**source.environment, "DATABASE_URL": url}, "backup", str(tmp_path), "--programs", PROGRAMS)
    assert done.returncode == 0, done.stderr
    assert "could not be recorded as an event" in done.stderr
    assert len(list(tmp_path.glob("*/backup.json"))) == 1


def test_a_backup_that_was_never_made_is_a_sentence(empty: dict[str, str], place: Path, backup: dict[str, Any]) -> None:
    done = restore(empty, place, "kernex-20200101T000000Z")
    assert done.returncode == 1
    assert "kernex-20200101T000000Z has no backup.json" in done.stderr
    assert "Leave the name out" in done.stderr


def test_without_a_name_the_whole_ones_are_listed(source: Live, place: Path, backup: dict[str, Any]) -> None:
    (place / "kernex-20990101T000000Z").mkdir(exist_ok=True)  # one that was cut off
    (place / "lost+found").mkdir(exist_ok=True)
    listed = manage(source.environment, "restore", str(place))
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, f"{backup['name']}\n", "")
    listed = manage(source.environment, "restore", str(place), "--json")
    assert json.loads(listed.stdout) == {"backups": [backup["name"]]}
    none = manage(source.environment, "restore", str(place / "lost+found"))
    assert (none.returncode, none.stdout) == (0, "")
    assert "has no complete backup" in none.stderr
    nowhere = manage(source.environment, "restore", str(place / "nowhere"))
    assert (nowhere.returncode, "cannot be read" in nowhere.stderr) == (1, True)


def test_everything_comes_back(empty: dict[str, str], place: Path, backup: dict[str, Any]) -> None:
    done = restore(empty, place, backup["name"])
    assert done.returncode == 0, done.stderr
    assert "Deployments are held" in done.stdout
    assert ask(empty, "SELECT name, state FROM devices_device") == ("edge-1", "accepted")
    stored = {path.name: path.stat().st_size for path in Path(empty["STORAGE_DIR"]).glob("blobs/*/*")}
    assert sorted(stored.values()) == [1, 100_000]
    assert len(list((place / "blobs").glob("*/*"))) == 2
    assert list(Path(empty["STORAGE_DIR"]).glob("uploads/*")) == []


def test_event_deletion_stays_revoked_from_public(empty: dict[str, str], place: Path, backup: dict[str, Any]) -> None:
    """A dump holds no privileges, and PostgreSQL grants EXECUTE on a new function to everyone."""
    assert restore(empty, place, backup["name"]).returncode == 0
    is_public = (
        "SELECT EXISTS (SELECT FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS acl"
        " WHERE proname = 'delete_old_events' AND acl.grantee = 0)"
    )
    assert ask(empty, is_public) is False


def test_nothing_is_offered_until_it_is_released(empty: dict[str, str], place: Path, backup: dict[str, Any]) -> None:
    restore(empty, place, backup["name"])
    assert ask(empty, "SELECT state, attempt FROM deployments_devicedeployment") == ("waiting", 2)
    assert ask(empty, "SELECT count(*) FROM devices_command WHERE withdrawn_at IS NULL") == 0
    assert manage(empty, "run_scheduler", "--once").returncode == 0
    assert ask(empty, "SELECT state FROM deployments_devicedeployment") == "waiting"
    assert manage(empty, "release_deployments").returncode == 0
    assert manage(empty, "run_scheduler", "--once").returncode == 0
    assert ask(empty, "SELECT state, attempt FROM deployments_devicedeployment") == ("offered", 2)
    assert ask(empty, "SELECT id > 10000000 FROM devices_command WHERE withdrawn_at IS NULL") is True
    again = manage(empty, "release_deployments")
    assert (again.returncode, "not held" in again.stderr) == (1, True)


def test_a_database_in_use_is_refused(source: Live, place: Path, backup: dict[str, Any]) -> None:
    done = restore(source.environment, place, backup["name"])
    assert done.returncode == 1
    assert "restore into an empty database" in done.stderr
    assert "Traceback" not in done.stderr
    assert ask(source.environment, "SELECT count(*) FROM deployments_hold") == 0


def test_a_database_that_somebody_uses_is_refused(empty: dict[str, str], place: Path, backup: dict[str, Any]) -> None:
    """They would hand out what is not held yet."""
    with psycopg.connect(empty["DATABASE_URL"]):
        done = restore(empty, place, backup["name"])
    assert done.returncode == 1
    assert "stop web servers and schedulers" in done.stderr
    assert ask(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


@pytest.mark.parametrize("name", ["backup.json", "database.dump", "blobs.txt"])
def test_a_damaged_or_cut_backup_changes_nothing(
    empty: dict[str, str], place: Path, backup: dict[str, Any], tmp_path: Path, name: str
) -> None:
    damaged = tmp_path / "place" / "b"
    damaged.mkdir(parents=True)
    for file in (place / backup["name"]).iterdir():
        content = file.read_bytes()
        if file.name == name == "backup.json":
            continue
        (damaged / file.name).write_bytes(content[:-1] + b"?" if file.name == name else content)
    done = restore(empty, damaged.parent, "b")
    assert done.returncode == 1
    assert "backup.json" in done.stderr
    assert "Traceback" not in done.stderr
    assert ask(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


def test_blobs_that_nobody_has_are_named(
    empty: dict[str, str], place: Path, backup: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "b").symlink_to(place / backup["name"])
    done = restore(empty, tmp_path / "bare", "b")
    assert done.returncode == 1
    assert "2 blobs are in neither storage nor backup" in done.stderr


def test_a_swapped_blob_is_not_taken(
    empty: dict[str, str], place: Path, backup: dict[str, Any], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "b").symlink_to(place / backup["name"])
    for blob in place.glob("blobs/*/*"):
        copy = other / blob.relative_to(place)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(b"x" * blob.stat().st_size)
    done = restore(empty, other, "b")
    assert "2 blobs are in neither" in done.stderr
    assert list(Path(empty["STORAGE_DIR"]).glob("blobs/*/*")) == []


@pytest.mark.parametrize("is_swapped", [False, True], ids=["gone", "swapped"])
def test_a_blob_that_storage_lost_is_named(source: Live, tmp_path: Path, is_swapped: bool) -> None:
    blob = max(Path(source.environment["STORAGE_DIR"]).glob("blobs/*/*"), key=lambda path: path.stat().st_size)
    kept = blob.rename(tmp_path / "kept")
    if is_swapped:
        blob.write_bytes(b"x" * 100_000)
    try:
        done = manage(source.environment, "backup", str(tmp_path / "b"), "--blobs", "--json", "--programs", PROGRAMS)
    finally:
        kept.rename(blob)
    assert done.returncode == 1
    assert blob.name in done.stderr
    assert "Traceback" not in done.stderr
    about = json.loads(done.stdout)
    assert about["blobs"]["lost"] == [blob.name]
    assert (tmp_path / "b" / about["name"] / "backup.json").exists()
    assert len(list((tmp_path / "b").glob("blobs/*/*"))) == 1


def test_a_database_that_a_provider_restored_is_held_by_hand(source: Live) -> None:
    assert manage(source.environment, "hold_deployments", "restored by the provider").returncode == 0
    again = manage(source.environment, "hold_deployments", "said twice")
    assert "restored by the provider" in again.stdout
    assert ask(source.environment, "SELECT state, attempt FROM deployments_devicedeployment") == ("waiting", 2)
    assert manage(source.environment, "release_deployments").returncode == 0


def test_missing_programs_are_a_sentence(source: Live, tmp_path: Path) -> None:
    done = manage(source.environment, "backup", str(tmp_path), "--programs", str(tmp_path))
    assert done.returncode == 1
    assert "pg_dump was not found" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_place_that_cannot_be_written_is_a_sentence(source: Live, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = manage(source.environment, "backup", str(tmp_path / "file"), "--programs", PROGRAMS)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bucket_without_a_key_is_a_sentence(source: Live) -> None:
    done = manage(source.environment, "backup", "s3://backups", "--programs", PROGRAMS)
    assert (done.returncode, "STORAGE_BUCKET" in done.stderr) == (1, True)
