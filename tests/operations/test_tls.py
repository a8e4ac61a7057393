"""A database that accepts only encrypted connections, as those of providers do."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operations.conftest import server_of
from tests.operations.databases import CommandResult, Database, manage
from tests.tools import certificate

ASK = "from django.db import connection as c; k = c.cursor(); k.execute('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'); print(k.fetchone())"  # fmt: skip  # noqa: E501


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"), "server")


@pytest.fixture(scope="module")
def database(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    postgres = server_of("15", tmp_path_factory)
    with postgres:
        database = Database(postgres).make()
        owner = (postgres.data / "PG_VERSION").stat()
        for path in (authority, authority.with_suffix(".key")):
            copy = postgres.data / path.name
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o600)
            os.chown(copy, owner.st_uid, owner.st_gid)
        with (postgres.data / "postgresql.conf").open("a") as file:
            file.write("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n")
        (postgres.data / "pg_hba.conf").write_text("hostssl all all all scram-sha-256\n")
        postgres.stop()
        postgres.start()
        yield database


def environment_with(database: Database, options: str) -> dict[str, str]:
    return database.environment(
        DATABASE_URL=f"{database.url}?{options}",
        ADMIN_DATABASE_URL=f"{database.admin_url}?{options}",
        DATABASE_POOL="4",
    )


def error_of(result: CommandResult) -> str:
    assert result.code == 1
    assert "Traceback" not in result.err
    assert result.err.startswith("CommandError: ")
    return result.err


def test_a_providers_url_works_unchanged(database: Database) -> None:
    required = environment_with(database, "sslmode=require")
    assert manage(required, "grant_perms").code == 0
    migrated = manage(required, "migrate")
    assert migrated.code == 0, migrated.err
    assert manage(required, "shell", "-c", ASK).out.endswith("(True,)\n")


def test_the_server_certificate_can_be_verified(database: Database, authority: Path, tmp_path: Path) -> None:
    verified = f"sslmode=verify-full&sslrootcert={authority}"
    assert manage(environment_with(database, verified), "grant_perms").code == 0
    assert manage(environment_with(database, verified), "grant_perms", "--check").code == 0
    another = certificate(tmp_path, "another")
    for arguments in (["migrate"], ["grant_perms"]):
        error = error_of(manage(environment_with(database, f"sslmode=verify-full&sslrootcert={another}"), *arguments))
        assert "certificate verify failed" in error


@pytest.mark.parametrize("command", ["migrate", "grant_perms"])
def test_a_connection_without_encryption_is_refused(database: Database, command: str) -> None:
    assert "no encryption" in error_of(manage(environment_with(database, "sslmode=disable"), command))
