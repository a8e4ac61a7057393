"""The pool of database sessions after all of them have ended, and after an outage of the database."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from dev.postgres import APP, Postgres
from tests.devices.own_server import own_server
from tests.live import Live

SESSIONS = 4
PATIENCE_SECONDS = 60
# psycopg_pool then waits longer before its next attempt than a request waits for a session.
FAILED_REQUESTS = 7


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postgres, Live]]:
    """A database, and one worker whose pool has at most four sessions."""
    with own_server(tmp_path_factory.mktemp("pool"), DATABASE_POOL=str(SESSIONS)) as (postgres, live):
        live.workers = 1
        live.start_web()
        yield postgres, live


def superuser(postgres: Postgres) -> "psycopg.Connection[tuple[int]]":
    url = postgres.url("postgres", postgres.passwords.postgres)
    return psycopg.connect(url, autocommit=True)


def session_ids(session: "psycopg.Connection[tuple[int]]") -> set[int]:
    rows = session.execute("SELECT pid FROM pg_stat_activity WHERE usename = %s", [APP])
    return {row[0] for row in rows}


def end_sessions(session: "psycopg.Connection[tuple[int]]") -> None:
    """End all sessions of Kernex, and wait until they have ended."""
    session.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = %s", [APP])


def list_groups(live: Live) -> int:
    return live.call("GET", "/groups").status_code


def fill_pool(postgres: Postgres, live: Live) -> None:
    """Send requests that wait for a lock at the same time, until the pool has all its sessions."""
    with superuser(postgres) as observer, ThreadPoolExecutor(SESSIONS) as threads:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(session_ids(observer)) < SESSIONS:
            assert time.monotonic() < deadline
            with superuser(postgres) as locking, locking.transaction():
                locking.execute("LOCK TABLE devices_group")
                responses = [threads.submit(list_groups, live) for _ in range(SESSIONS)]
                time.sleep(0.5)
            for response in responses:
                response.result()


def test_a_request_after_all_sessions_ended_succeeds(servers: tuple[Postgres, Live]) -> None:
    postgres, live = servers
    fill_pool(postgres, live)
    with superuser(postgres) as session:
        ended = session_ids(session)
        end_sessions(session)
        assert list_groups(live) == 200
        assert not session_ids(session) & ended


def test_requests_at_the_same_time_after_all_sessions_ended_succeed(servers: tuple[Postgres, Live]) -> None:
    postgres, live = servers
    fill_pool(postgres, live)
    with superuser(postgres) as session:
        end_sessions(session)
    with ThreadPoolExecutor(SESSIONS) as threads:
        assert list(threads.map(list_groups, [live] * 3 * SESSIONS)) == [200] * 3 * SESSIONS


def test_a_request_after_a_restart_succeeds(servers: tuple[Postgres, Live]) -> None:
    postgres, live = servers
    fill_pool(postgres, live)
    postgres.stop()
    postgres.start()
    assert list_groups(live) == 200


@pytest.mark.long
def test_the_first_request_after_a_long_outage_succeeds(servers: tuple[Postgres, Live]) -> None:
    postgres, live = servers
    fill_pool(postgres, live)
    postgres.stop()
    assert [list_groups(live) for _ in range(FAILED_REQUESTS)] == [503] * FAILED_REQUESTS
    postgres.start()
    assert list_groups(live) == 200
