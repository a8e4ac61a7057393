"""The runtime role: it can run web server and scheduler, and PostgreSQL denies everything else."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import requests

from tests.end_to_end.fleet import wait_for
from tests.live import Live, running
from tests.operations.databases import Database, manage

PASSWORD = "runtime-password"
FORBIDDEN = [
    "CREATE TABLE public.mine ()",
    "CREATE SCHEMA mine",
    "CREATE PUBLICATION mine FOR ALL TABLES",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE ROLE mine",
    "CREATE DATABASE mine",
    "DROP TABLE devices_device CASCADE",
    "DROP INDEX event_device",
    "DROP SCHEMA public CASCADE",
    "ALTER TABLE devices_device ADD COLUMN mine int",
    "ALTER TABLE devices_device DISABLE TRIGGER ALL",
    "ALTER TABLE events_event OWNER TO CURRENT_USER",
    "ALTER ROLE doadmin PASSWORD 'mine'",
    "TRUNCATE devices_device CASCADE",
    "TRUNCATE events_event",
    "UPDATE events_event SET message = ''",
    "DELETE FROM events_event",
    "UPDATE django_migrations SET name = ''",
    "INSERT INTO django_migrations (app, name, applied) VALUES ('a', 'b', now())",
    "DELETE FROM django_migrations",
    "CREATE TRIGGER mine BEFORE INSERT ON devices_device EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE INDEX mine ON devices_device (name)",
    "SELECT setval('devices_command_id_seq', 1)",
    "COPY (SELECT 1) TO '/tmp/mine'",
    "COPY devices_device FROM PROGRAM 'true'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT * FROM pg_authid",
    "ALTER SYSTEM SET work_mem = '1GB'",
    "SET ROLE doadmin",
    "SET SESSION AUTHORIZATION doadmin",
    "SELECT lo_import('/etc/passwd')",
    "DO $$ BEGIN LOCK TABLE events_event IN ACCESS EXCLUSIVE MODE; END $$",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A control plane, migrated as `kernex_app`, whose processes use the runtime role."""
    with running(tmp_path_factory.mktemp("runtime")) as live:
        live.stop()
        granted = grant(live)
        assert granted.returncode == 0, granted.err
        live.environment["DATABASE_URL"] = runtime_url(live)
        live.start()
        yield live


class GrantResult:
    def __init__(self, returncode: int, out: str, err: str) -> None:
        self.returncode, self.out, self.err = returncode, out, err


def runtime_role_of(live: Live) -> str:
    return f"runtime_{live.environment['DATABASE_URL'].rpartition('_')[2]}"


def grant(live: Live, *arguments: str) -> GrantResult:
    admin = os.environ["KERNEX_TEST_ADMIN_URL"].rpartition("/")[0]
    database = live.environment["DATABASE_URL"].rpartition("/")[2]
    environment = {
        **live.environment, "ADMIN_DATABASE_URL": f"{admin}/{database}", "RUNTIME_PASSWORD": PASSWORD,
    }  # fmt: skip
    result = manage(environment, "grant_perms", "--runtime-role", runtime_role_of(live), *arguments)
    return GrantResult(result.code, result.out, result.err)


def runtime_url(live: Live) -> str:
    host_and_database = live.environment["DATABASE_URL"].partition("@")[2]
    return f"postgresql://{runtime_role_of(live)}:{PASSWORD}@{host_and_database}"


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_a_forbidden_statement_is_denied(server: Live, statement: str) -> None:
    with (
        psycopg.connect(server.environment["DATABASE_URL"], autocommit=True) as connection,
        pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedFile)),
    ):
        connection.execute(statement.encode())


def test_it_can_delete_only_old_events_through_the_function(server: Live) -> None:
    with psycopg.connect(server.environment["DATABASE_URL"], autocommit=True) as connection:
        for days in (40, 20):
            connection.execute(
                "INSERT INTO events_event (at, kind, actor, message, data)"
                " VALUES (now() - %s * interval '1 day', 'a.test', 'a', 'a', '{}')",
                [days],
            )
        # A table of the caller with the same name is never used instead.
        connection.execute("SET search_path = pg_temp, public")
        connection.execute("CREATE TEMPORARY TABLE events_event (id bigint, at timestamptz)")
        assert connection.execute("SELECT public.delete_old_events(0, 1000)").fetchone() == (1,)
        remaining = connection.execute("SELECT count(*) FROM public.events_event WHERE kind = 'a.test'").fetchone()
    assert remaining == (1,)


def test_web_server_and_scheduler_work(server: Live) -> None:
    assert server.call("POST", "/groups", {"name": "lab", "interval_seconds": 5}).status_code == 201
    assert server.enrolment_token()
    assert server.call("GET", "/devices").status_code == 200
    with psycopg.connect(server.environment["DATABASE_URL"]) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM events_event").fetchone() == (True,)


def test_health_is_ok(server: Live) -> None:
    wait_for(lambda: requests.get(f"{server.url}/health", timeout=10).json()["status"] == "ok")


def test_granting_is_idempotent_and_the_check_passes(tmp_path: Path) -> None:
    with running(tmp_path) as live:
        live.stop()
        assert grant(live, "--check").returncode == 1
        first, again = grant(live), grant(live)
        assert (first.returncode, again.returncode) == (0, 0), first.err + again.err
        assert "GRANT" in first.out
        assert "GRANT" not in again.out
        assert PASSWORD not in first.out + first.err
        assert grant(live, "--check").returncode == 0


def test_a_role_granted_before_the_migrations_may_delete_old_events(database: Database) -> None:
    """On each version of PostgreSQL. Other roles may not call the function."""
    database.grant()
    environment = database.environment(ADMIN_DATABASE_URL=database.admin_url, RUNTIME_PASSWORD=PASSWORD)
    runtime, other_role = f"{database.role}_web", f"{database.role}_stranger"
    assert manage(environment, "grant_perms", "--runtime-role", runtime).code == 0
    assert manage(environment, "migrate").code == 0
    database.run(database.superuser_url, f"CREATE ROLE {other_role} LOGIN PASSWORD '{PASSWORD}'")
    call = "SELECT delete_old_events(30, 10)"
    assert database.run(database.url, call) == [(0,)]
    assert database.run(database.postgres.url(runtime, PASSWORD, database.name), call) == [(0,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.run(database.postgres.url(other_role, PASSWORD, database.name), call)


def test_the_owner_is_refused_as_runtime_role(newest_database: Database) -> None:
    environment = newest_database.environment(ADMIN_DATABASE_URL=newest_database.admin_url, RUNTIME_PASSWORD=PASSWORD)
    result = manage(environment, "grant_perms", "--runtime-role", newest_database.role)
    assert result.code == 1
    assert "other than DATABASE_URL's" in result.err
