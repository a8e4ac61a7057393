"""The PostgreSQL of laptops and tests: it survives kills, names damaged data, and does not run as root."""

import os
import shutil
from pathlib import Path

import psycopg
import pytest

from dev import unprivileged
from dev.postgres import Postgres, PostgresFailed


def test_it_keeps_its_data(tmp_path: Path) -> None:
    for is_present in (False, True):
        with Postgres(tmp_path) as server, psycopg.connect(server.admin_url, autocommit=True) as connection:
            row = connection.execute("SELECT to_regclass('kept') IS NOT NULL").fetchone()
            assert row == (is_present,)
            if not is_present:
                connection.execute("CREATE TABLE kept ()")


def test_it_starts_after_an_initialisation_was_killed(tmp_path: Path) -> None:
    (tmp_path / "data.new").mkdir()
    (tmp_path / "data.new" / "PG_VERSION").write_text("18\n")
    (tmp_path / "initial-password").touch()
    with Postgres(tmp_path, durable=False) as server:
        psycopg.connect(server.admin_url).close()
    assert not (tmp_path / "data.new").exists()


def test_damaged_data_is_named_and_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "PG_VERSION").write_text("18\n")
    with pytest.raises(PostgresFailed, match=f"move {tmp_path} aside"):
        Postgres(tmp_path).start()
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_root_without_user_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data is under a directory that only root can enter."""
    if os.geteuid() != 0:
        pytest.skip("only root needs another user")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    outside = Path("/var/tmp") / f"kernex-test-{os.getpid()}"
    outside.mkdir(mode=0o755)
    monkeypatch.setattr(unprivileged, "OUTSIDE", outside)
    (tmp_path / "home").mkdir(mode=0o700)
    try:
        for _ in range(2):
            with Postgres(tmp_path / "home", durable=False) as server:
                assert server.process is not None
                assert Path(f"/proc/{server.process.pid}").stat().st_uid == unprivileged.NOBODY
                psycopg.connect(server.admin_url).close()
        assert (tmp_path / "home" / "data").is_symlink()
    finally:
        shutil.rmtree(outside)
