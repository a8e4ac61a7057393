"""One server for each supported PostgreSQL version, started once and only if a test needs it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from _pytest.mark import ParameterSet

from dev.postgres import Postgres, find_binaries
from tests.live import live  # noqa: F401
from tests.operations.databases import Database
from tests.tools import unavailable

NEWEST = "18"
PRODUCTION = "15"
VERSIONS: dict[str, Callable[[], Path]] = {
    PRODUCTION: lambda: Path("/usr/lib/postgresql/15/bin"),  # Debian's version; providers still offer it
    "16": lambda: find_binaries().parent.parent / "pginstall" / "bin",
    NEWEST: find_binaries,
}


def _params() -> list[ParameterSet]:
    """Return the versions. The short run has the version of production only."""
    return [pytest.param(version, marks=() if version == PRODUCTION else pytest.mark.long) for version in VERSIONS]


@pytest.fixture(scope="session", params=_params())
def any_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One server of each installed version."""
    with server_of(request.param, tmp_path_factory) as postgres:
        with psycopg.connect(postgres.superuser_url) as session:
            assert session.info.server_version // 10_000 == int(request.param)
        yield postgres


@pytest.fixture(scope="session")
def newest_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with server_of(NEWEST, tmp_path_factory) as postgres:
        yield postgres


def server_of(version: str, tmp_path_factory: pytest.TempPathFactory) -> Postgres:
    """Return a server of this version, not started yet. Skip the test if the version is missing."""
    binaries = VERSIONS[version]()
    if not (binaries / "initdb").exists():
        unavailable(f"PostgreSQL {version} is missing: apt install postgresql-{version}")
    postgres = Postgres(tmp_path_factory.mktemp(f"postgres-{version}"), durable=False)
    postgres.binaries = binaries
    return postgres


@pytest.fixture
def database(any_server: Postgres) -> Database:
    """A separate database on each version."""
    return Database(any_server).make()


@pytest.fixture
def newest_database(newest_server: Postgres) -> Database:
    """A separate database on the newest version."""
    return Database(newest_server).make()
