"""Starting with missing grants or migrations: an error that says what to run, and recovery without a restart."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import requests

from dev.postgres import free_port
from tests.live import Live
from tests.operations.databases import ROOT, CommandResult, Database, manage

SCHEDULER = "run_scheduler"


def serve(database: Database) -> CommandResult:
    """Start gunicorn as in production. The call times out if the start is not refused."""
    command = [sys.executable, "-m", "gunicorn", "kernex.wsgi", "--bind", f"127.0.0.1:{free_port()}"]
    environment = database.environment(DATABASE_POOL="4")
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    return CommandResult(result.returncode, result.stdout, result.stderr)


def privilege_error(result: CommandResult, role: str) -> str:
    """Return the error of a refused start, without the log lines before it."""
    assert result.code == 1, result.err
    assert "Traceback" not in result.out + result.err
    start = result.err.index(f"The database role {role} lacks a privilege that Kernex needs: ")
    assert "python manage.py grant_perms\n" in result.err[start:]
    return result.err[start:].strip()


def test_an_ungranted_role_gets_the_command_to_run(database: Database) -> None:
    database.make_role(database.admin_url)
    result = manage(database.environment(), "migrate")
    assert "permission denied for schema public" in privilege_error(result, database.role)


@pytest.mark.long
def test_each_process_prints_the_same_error(newest_database: Database) -> None:
    newest_database.make_role(newest_database.admin_url)
    results = {
        "migrate": manage(newest_database.environment(), "migrate"),
        "scheduler": manage(newest_database.environment(), SCHEDULER),
        "scheduler once": manage(newest_database.environment(), SCHEDULER, "--once"),
        "web server": serve(newest_database),
    }
    assert len({privilege_error(result, newest_database.role) for result in results.values()}) == 1, results


def test_a_missing_role_gets_the_command_to_run(newest_database: Database) -> None:
    pooled = manage(newest_database.environment(DATABASE_POOL="4"), "migrate")
    for result in (manage(newest_database.environment(), "migrate"), pooled, serve(newest_database)):
        assert "authentication failed" in privilege_error(result, newest_database.role)


def test_a_role_that_may_not_connect_gets_the_command_to_run(newest_database: Database) -> None:
    newest_database.make_role(newest_database.admin_url)
    newest_database.run(newest_database.admin_url, "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
    for result in (manage(newest_database.environment(), "migrate"), serve(newest_database)):
        assert "permission denied for database" in privilege_error(result, newest_database.role)


def test_an_unreachable_database_is_reported(newest_database: Database) -> None:
    unreachable = newest_database.environment(DATABASE_URL="postgresql://kernex_app:s3cret@127.0.0.1:1/kernex_db")
    for environment in (unreachable, unreachable | {"DATABASE_POOL": "4"}):
        result = manage(environment, "migrate")
        assert result.code == 1
        assert result.err.startswith("CommandError: The database cannot be reached: ")
        assert "refused" in result.err
        assert "s3cret" not in result.err


def test_two_concurrent_migrations_both_succeed(newest_database: Database) -> None:
    assert newest_database.grant().code == 0
    results_of_threads: list[CommandResult] = []
    threads = [
        threading.Thread(target=lambda: results_of_threads.append(manage(newest_database.environment(), "migrate")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.code for result in results_of_threads] == [0, 0], results_of_threads
    assert sorted("No migrations to apply" in result.out for result in results_of_threads) == [False, True]
    assert newest_database.run(
        newest_database.url, "SELECT count(*) - count(DISTINCT (app, name)) FROM django_migrations"
    ) == [(0,)]  # fmt: skip


def test_it_continues_a_migration_that_the_admin_started(newest_database: Database) -> None:
    as_admin = newest_database.environment(DATABASE_URL=newest_database.admin_url)
    assert manage(as_admin, "migrate", "devices").code == 0
    newest_database.make_role(newest_database.admin_url)
    assert newest_database.grant().code == 0
    result = manage(newest_database.environment(), "migrate")
    assert result.code == 0, result.err
    foreign = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND tableowner <> {role_name}"
    assert newest_database.run(newest_database.url, foreign.replace("{role_name}", "current_user")) == []


@pytest.mark.long
def test_waiting_for_a_locked_table_is_limited(newest_database: Database) -> None:
    """Otherwise every heartbeat would wait behind the waiting migration."""
    assert newest_database.grant().code == 0
    assert manage(newest_database.environment(), "migrate").code == 0
    assert manage(newest_database.environment(), "migrate", "tokens", "zero").code == 0
    with psycopg.connect(newest_database.url) as session:
        session.execute("SET idle_in_transaction_session_timeout = 0")
        session.execute("LOCK TABLE auth_user IN ACCESS EXCLUSIVE MODE")
        result = manage(newest_database.environment(), "migrate")
    assert result.code == 1
    assert result.err.count("is in use; trying again") == 4
    assert "Migrations that ran stay applied; run migrate again." in result.err
    assert "Traceback" not in result.err
    assert manage(newest_database.environment(), "migrate").code == 0


def test_a_table_that_is_in_use_for_a_moment_is_waited_for(newest_database: Database) -> None:
    assert newest_database.grant().code == 0
    assert manage(newest_database.environment(), "migrate").code == 0
    assert manage(newest_database.environment(), "migrate", "tokens", "zero").code == 0
    results: list[CommandResult] = []
    migrating = threading.Thread(target=lambda: results.append(manage(newest_database.environment(), "migrate")))
    with psycopg.connect(newest_database.url) as session:
        session.execute("LOCK TABLE auth_user IN ACCESS EXCLUSIVE MODE")
        migrating.start()
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_for(lambda: newest_database.run(newest_database.url, waiting))
        time.sleep(3.5)  # longer than migrate waits for a table
    migrating.join()
    assert [result.code for result in results] == [0], results
    assert "is in use; trying again" in results[0].err


@pytest.mark.long
def test_an_interrupted_index_is_rebuilt(newest_database: Database) -> None:
    """The interrupted build left an invalid index of the same name."""
    assert newest_database.grant().code == 0
    assert manage(newest_database.environment(), "migrate", "events", "0001").code == 0
    newest_database.run(newest_database.url, "CREATE INDEX event_backup ON events_event (id)")
    result = manage(newest_database.environment(), "migrate")
    assert result.code == 0, result.err
    (definition,) = newest_database.run(
        newest_database.url, "SELECT indexdef FROM pg_indexes WHERE indexname = 'event_backup'"
    )
    assert "backup.made" in definition[0]


def test_building_an_index_waits_for_transactions_and_blocks_no_writes(newest_database: Database) -> None:
    assert newest_database.grant().code == 0
    assert manage(newest_database.environment(), "migrate", "events", "0001").code == 0
    results_of_threads: list[CommandResult] = []
    migrating = threading.Thread(
        target=lambda: results_of_threads.append(manage(newest_database.environment(), "migrate"))
    )
    insert = "INSERT INTO events_event (at, kind, actor, message, data) VALUES (now(), 'x', 'x', 'x', '{}')"
    with psycopg.connect(newest_database.url) as session:
        session.execute(insert)
        migrating.start()
        waiting_build = (
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'CREATE INDEX CONC%'"
        )
        wait_for(lambda: newest_database.run(newest_database.url, waiting_build))
        time.sleep(4)  # longer than the lock timeout for tables
        with psycopg.connect(newest_database.url, options="-c lock_timeout=1s") as other:
            other.execute(insert)
    migrating.join()
    assert [result.code for result in results_of_threads] == [0], results_of_threads


@pytest.fixture
def web(newest_database: Database, tmp_path: Path) -> Iterator[Live]:
    """A web server whose database is granted but not migrated."""
    assert newest_database.grant().code == 0
    port = free_port()
    environment = newest_database.environment(DATABASE_POOL="4", PUBLIC_URL=f"http://127.0.0.1:{port}")
    live = Live(tmp_path, environment, port, workers=1)
    try:
        live.start_web()
        yield live
    finally:
        live.stop()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 150
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)


def health(live: Live) -> tuple[int, list[str]]:
    """Return the status and the fix for each problem, except for the missing scheduler."""
    response = requests.get(f"{live.url}/health", timeout=30)
    fixes = [problem["fix"] for problem in response.json()["problems"]]
    return response.status_code, [fix for fix in fixes if fix != f"python manage.py {SCHEDULER}"]


@pytest.mark.long
def test_it_recovers_without_a_restart(newest_database: Database, web: Live) -> None:
    assert health(web) == (503, ["python manage.py migrate"])
    assert manage(newest_database.environment(), "migrate").code == 0
    assert health(web) == (200, [])
    newest_database.run(newest_database.admin_url, "REVOKE ALL ON SCHEMA public FROM {role}, PUBLIC")
    assert health(web) == (503, ["python manage.py grant_perms"])
    response = requests.get(f"{web.url}/api/v1/devices", headers={"Authorization": "Bearer kxa_x"}, timeout=30)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "database_not_ready")
    assert newest_database.grant().code == 0
    assert health(web) == (200, [])
    response = requests.get(f"{web.url}/api/v1/devices", headers={"Authorization": "Bearer kxa_x"}, timeout=30)
    assert response.status_code == 401


@pytest.mark.long
def test_a_running_scheduler_recovers_without_a_restart(newest_database: Database, web: Live) -> None:
    assert manage(newest_database.environment(), "migrate").code == 0
    web.start_scheduler()
    wait_for(lambda: "this scheduler is running" in web.log("scheduler.log"))
    newest_database.run(newest_database.admin_url, "REVOKE ALL ON SCHEMA public FROM {role}, PUBLIC")
    wait_for(lambda: "failed; the other tasks continue" in web.log("scheduler.log"))
    assert newest_database.grant().code == 0
    created = manage(
        newest_database.environment(), "shell", "-c",
        "from tests.factories import make_bundle; make_bundle(state='verifying', contents={'words.txt': b'words'})",
    )  # fmt: skip
    assert created.code == 0, created.err
    wait_for(lambda: "task 'verify bundles' handled 1" in web.log("scheduler.log"))
    assert web.scheduler is not None
    assert web.scheduler.poll() is None
