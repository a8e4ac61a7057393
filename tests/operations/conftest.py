"""Servers of the PostgreSQL versions that Kernex promises, each started once and only if a test asks for it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from dev.postgres import Postgres, find_binaries
from tests.live import live  # noqa: F401
from tests.operations.places import Place
from tests.tools import unavailable

NEWEST = "18"
VERSIONS: dict[str, Callable[[], Path]] = {
    "15": lambda: Path("/usr/lib/postgresql/15/bin"),  # Debian's; providers still run it
    "16": lambda: find_binaries().parent.parent / "pginstall" / "bin",
    NEWEST: find_binaries,
}


@pytest.fixture(scope="session", params=VERSIONS)
def any_version(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One server after the other, of each version that is here."""
    with server_of(request.param, tmp_path_factory) as postgres:
        with psycopg.connect(postgres.superuser_url) as session:
            assert session.info.server_version // 10_000 == int(request.param)
        yield postgres


@pytest.fixture(scope="session")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with server_of(NEWEST, tmp_path_factory) as postgres:
        yield postgres


def server_of(version: str, tmp_path_factory: pytest.TempPathFactory) -> Postgres:
    """A server of this version that is not started yet; skips the test where the version is missing."""
    binaries = VERSIONS[version]()
    if not (binaries / "initdb").exists():
        unavailable(f"PostgreSQL {version} is missing: apt install postgresql-{version}")
    postgres = Postgres(tmp_path_factory.mktemp(f"postgres-{version}"), durable=False)
    postgres.binaries = binaries
    return postgres


@pytest.fixture
def place(any_version: Postgres) -> Place:
    """A database of the test's own on each version."""
    return Place(any_version).make()


@pytest.fixture
def new_place(newest: Postgres) -> Place:
    """A database of the test's own on the newest version."""
    return Place(newest).make()
