"""A database that takes encrypted connections alone, as providers have it, on the version that they run."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operations.conftest import server_of
from tests.operations.places import Place, Ran, manage
from tests.tools import certificate

ASK = "from django.db import connection as c; k = c.cursor(); k.execute('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'); print(k.fetchone())"  # fmt: skip  # noqa: E501


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"), "server")


@pytest.fixture(scope="module")
def place(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    postgres = server_of("15", tmp_path_factory)
    with postgres:
        place = Place(postgres).make()
        owner = (postgres.data / "PG_VERSION").stat()
        for path in (authority, authority.with_suffix(".key")):
            ours = postgres.data / path.name
            ours.write_bytes(path.read_bytes())
            ours.chmod(0o600)
            os.chown(ours, owner.st_uid, owner.st_gid)
        with (postgres.data / "postgresql.conf").open("a") as file:
            file.write("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n")
        (postgres.data / "pg_hba.conf").write_text("hostssl all all all scram-sha-256\n")
        postgres.stop()
        postgres.start()
        yield place


def by(place: Place, options: str) -> dict[str, str]:
    return place.environment(
        DATABASE_URL=f"{place.url}?{options}", ADMIN_DATABASE_URL=f"{place.admin_url}?{options}", DATABASE_POOL="4"
    )


def sentence(ran: Ran) -> str:
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert ran.err.startswith("CommandError: ")
    return ran.err


def test_the_providers_address_works_as_it_is(place: Place) -> None:
    required = by(place, "sslmode=require")
    assert manage(required, "grant_perms").code == 0
    migrated = manage(required, "migrate")
    assert migrated.code == 0, migrated.err
    assert manage(required, "shell", "-c", ASK).out.endswith("(True,)\n")


def test_a_server_can_be_verified(place: Place, authority: Path, tmp_path: Path) -> None:
    verified = f"sslmode=verify-full&sslrootcert={authority}"
    assert manage(by(place, verified), "grant_perms").code == 0
    assert manage(by(place, verified), "grant_perms", "--check").code == 0
    another = certificate(tmp_path, "another")
    for words in (["migrate"], ["grant_perms"]):
        told = sentence(manage(by(place, f"sslmode=verify-full&sslrootcert={another}"), *words))
        assert "certificate verify failed" in told


@pytest.mark.parametrize("command", ["migrate", "grant_perms"])
def test_an_address_without_encryption_is_refused_in_a_sentence(place: Place, command: str) -> None:
    assert "no encryption" in sentence(manage(by(place, "sslmode=disable"), command))
