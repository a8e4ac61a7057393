"""`manage.py backup` as a nightly job: one line of output, exit codes, retention, never two at once."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from operations.backups.create import LOCK_KEY
from operations.backups.destinations import DirectoryDestination
from operations.backups.retention import complete_backups, delete_old_backups
from tests.live import Live
from tests.operations.test_backup import PROGRAMS, manage, source

__all__ = ["source"]


def make_backup(directory: Path, name: str, *blobs: str, is_complete: bool = True) -> None:
    (directory / name).mkdir(parents=True)
    (directory / name / "database.dump").write_text("a dump")
    (directory / name / "blobs.txt").write_text("".join(f"{blob} 1\n" for blob in blobs))
    if is_complete:
        (directory / name / "backup.json").write_text("{}")
    for blob in blobs:
        (directory / "blobs" / blob[:2]).mkdir(parents=True, exist_ok=True)
        (directory / "blobs" / blob[:2] / blob).write_text("b")


def stored_blobs(directory: Path) -> set[str]:
    return {path.name for path in (directory / "blobs").glob("*/*")}


def test_old_backups_are_deleted_with_the_blobs_that_only_they_need(tmp_path: Path) -> None:
    make_backup(tmp_path, "kernex-1", "aa1", "bb1")
    make_backup(tmp_path, "kernex-2", is_complete=False)
    make_backup(tmp_path, "kernex-3", "bb1", "cc1")
    make_backup(tmp_path, "kernex-4", "cc1")
    make_backup(tmp_path, "kernex-5", "dd1", is_complete=False)
    (tmp_path / "lost+found").mkdir()
    directory = DirectoryDestination(tmp_path)
    assert delete_old_backups(directory, keep=2) == ["kernex-1", "kernex-2"]
    assert complete_backups(directory) == ["kernex-4", "kernex-3"]
    assert stored_blobs(tmp_path) == {"bb1", "cc1", "dd1"}
    assert {path.name for path in tmp_path.iterdir()} == {
        "kernex-3", "kernex-4", "kernex-5", "blobs", "lost+found"
    }  # fmt: skip
    assert delete_old_backups(directory, keep=2) == []


@pytest.mark.parametrize("keep", [1, 5])
def test_the_last_complete_backup_stays(tmp_path: Path, keep: int) -> None:
    make_backup(tmp_path, "kernex-1", "aa1")
    make_backup(tmp_path, "kernex-2", is_complete=False)
    assert delete_old_backups(DirectoryDestination(tmp_path), keep=keep) == []
    assert stored_blobs(tmp_path) == {"aa1"}


def test_a_deletion_that_is_interrupted_leaves_no_damaged_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        make_backup(tmp_path, f"kernex-{number}")

    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupt)
    with pytest.raises(KeyboardInterrupt):
        delete_old_backups(DirectoryDestination(tmp_path), keep=1)
    monkeypatch.undo()
    assert complete_backups(DirectoryDestination(tmp_path)) == ["kernex-2"]
    assert delete_old_backups(DirectoryDestination(tmp_path), keep=1) == ["kernex-1"]


def backup(source: Live, directory: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return manage(source.environment, "backup", str(directory), "--programs", PROGRAMS, *arguments)


def test_one_line_on_success_and_the_older_backup_is_deleted(source: Live, tmp_path: Path) -> None:
    make_backup(tmp_path, "kernex-20200101T000000Z", "aa1")
    result = backup(source, tmp_path, "--blobs", "--keep", "1")
    assert (result.returncode, len(result.stdout.splitlines())) == (0, 1), result.stderr
    assert "2 blobs (copied); deleted kernex-20200101T000000Z." in result.stdout
    assert len(stored_blobs(tmp_path)) == 2
    document: dict[str, Any] = json.loads(backup(source, tmp_path, "--json", "--keep", "9").stdout)
    assert document["deleted"] == []


@pytest.mark.parametrize("keep", ["0", "-1", "all"])
def test_keeping_less_than_one_is_refused(source: Live, tmp_path: Path, keep: str) -> None:
    result = backup(source, tmp_path, "--keep", keep)
    assert result.returncode != 0
    assert "is not a positive whole number" in result.stderr


def test_a_second_concurrent_backup_does_nothing(source: Live, tmp_path: Path) -> None:
    with psycopg.connect(source.environment["DATABASE_URL"], autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", LOCK_KEY)
        result = backup(source, tmp_path, "--keep", "1")
    assert (result.returncode, result.stdout) == (1, "")
    assert "Another backup of this database is running" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_database_is_reported(source: Live, tmp_path: Path) -> None:
    environment = {**source.environment, "DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c"}
    result = manage(environment, "backup", str(tmp_path), "--programs", PROGRAMS)
    assert result.returncode == 1
    assert "The database cannot be reached" in result.stderr
    assert "Traceback" not in result.stderr
