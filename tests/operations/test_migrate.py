"""Starting where something is missing: a paragraph that says what to run, and no restart once it was run."""

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
from tests.operations.places import ROOT, Place, Ran, manage

SCHEDULER = "run_scheduler"


def serve(place: Place) -> Ran:
    """gunicorn as in production; a start that is not refused would go on until the time is over."""
    command = [sys.executable, "-m", "gunicorn", "kernex.wsgi", "--bind", f"127.0.0.1:{free_port()}"]
    environment = place.environment(DATABASE_POOL="4")
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def paragraph(ran: Ran, role: str) -> str:
    """What a refused start said, without the lines of the log before it."""
    assert ran.code == 1, ran.err
    assert "Traceback" not in ran.out + ran.err
    begin = ran.err.index(f"The database role {role} lacks a privilege that Kernex needs: ")
    assert "python manage.py grant_perms\n" in ran.err[begin:]
    return ran.err[begin:].strip()


def test_an_ungranted_role_is_told_what_to_run(place: Place) -> None:
    place.make_role(place.admin_url)
    ran = manage(place.environment(), "migrate")
    assert "permission denied for schema public" in paragraph(ran, place.role)


def test_each_start_says_the_same(new_place: Place) -> None:
    new_place.make_role(new_place.admin_url)
    told = {
        "migrate": manage(new_place.environment(), "migrate"),
        "scheduler": manage(new_place.environment(), SCHEDULER),
        "scheduler once": manage(new_place.environment(), SCHEDULER, "--once"),
        "web server": serve(new_place),
    }
    assert len({paragraph(ran, new_place.role) for ran in told.values()}) == 1, told


def test_a_role_that_does_not_exist_is_told_what_to_run(new_place: Place) -> None:
    pooled = manage(new_place.environment(DATABASE_POOL="4"), "migrate")
    for ran in (manage(new_place.environment(), "migrate"), pooled, serve(new_place)):
        assert "authentication failed" in paragraph(ran, new_place.role)


def test_a_role_that_may_not_connect_is_told_what_to_run(new_place: Place) -> None:
    new_place.make_role(new_place.admin_url)
    new_place.run(new_place.admin_url, "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
    for ran in (manage(new_place.environment(), "migrate"), serve(new_place)):
        assert "permission denied for database" in paragraph(ran, new_place.role)


def test_a_database_that_is_away_is_a_sentence(new_place: Place) -> None:
    away = new_place.environment(DATABASE_URL="postgresql://kernex_app:s3cret@127.0.0.1:1/kernex_db")
    for environment in (away, away | {"DATABASE_POOL": "4"}):
        ran = manage(environment, "migrate")
        assert ran.code == 1
        assert ran.err.startswith("CommandError: The database cannot be reached: ")
        assert "refused" in ran.err
        assert "s3cret" not in ran.err


def test_two_at_once_both_succeed(new_place: Place) -> None:
    assert new_place.grant().code == 0
    ended: list[Ran] = []
    both = [threading.Thread(target=lambda: ended.append(manage(new_place.environment(), "migrate"))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert [ran.code for ran in ended] == [0, 0], ended
    assert sorted("No migrations to apply" in ran.out for ran in ended) == [False, True]
    assert new_place.run(
        new_place.url, "SELECT count(*) - count(DISTINCT (app, name)) FROM django_migrations"
    ) == [(0,)]  # fmt: skip


def test_migrated_by_the_admin_and_handed_over_it_migrates_on(new_place: Place) -> None:
    as_admin = new_place.environment(DATABASE_URL=new_place.admin_url)
    assert manage(as_admin, "migrate", "devices").code == 0
    new_place.make_role(new_place.admin_url)
    assert new_place.grant().code == 0
    ran = manage(new_place.environment(), "migrate")
    assert ran.code == 0, ran.err
    foreign = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' AND tableowner <> {role_name}"
    assert new_place.run(new_place.url, foreign.replace("{role_name}", "current_user")) == []


def test_a_table_in_use_is_not_waited_for_forever(new_place: Place) -> None:
    """Every heartbeat would wait behind a migration that waits."""
    assert new_place.grant().code == 0
    assert manage(new_place.environment(), "migrate").code == 0
    assert manage(new_place.environment(), "migrate", "tokens", "zero").code == 0
    with psycopg.connect(new_place.url) as session:
        session.execute("LOCK TABLE auth_user IN ACCESS EXCLUSIVE MODE")
        ran = manage(new_place.environment(), "migrate")
    assert ran.code == 1
    assert "is in use" in ran.err
    assert "Traceback" not in ran.err
    assert manage(new_place.environment(), "migrate").code == 0


def test_an_index_that_was_cut_off_is_built_anew(new_place: Place) -> None:
    """It was left invalid, and its name is taken."""
    assert new_place.grant().code == 0
    assert manage(new_place.environment(), "migrate", "events", "0001").code == 0
    new_place.run(new_place.url, "CREATE INDEX event_backup ON events_event (id)")
    ran = manage(new_place.environment(), "migrate")
    assert ran.code == 0, ran.err
    (definition,) = new_place.run(new_place.url, "SELECT indexdef FROM pg_indexes WHERE indexname = 'event_backup'")
    assert "backup.made" in definition[0]


def test_an_index_waits_for_who_is_at_work_and_holds_nobody_up(new_place: Place) -> None:
    assert new_place.grant().code == 0
    assert manage(new_place.environment(), "migrate", "events", "0001").code == 0
    ended: list[Ran] = []
    migrating = threading.Thread(target=lambda: ended.append(manage(new_place.environment(), "migrate")))
    insert = "INSERT INTO events_event (at, kind, actor, message, data) VALUES (now(), 'x', 'x', 'x', '{}')"
    with psycopg.connect(new_place.url) as session:
        session.execute(insert)
        migrating.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'CREATE INDEX CONC%'"
        wait_for(lambda: new_place.run(new_place.url, waits))
        time.sleep(4)  # longer than it may wait for a table
        with psycopg.connect(new_place.url, options="-c lock_timeout=1s") as other:
            other.execute(insert)
    migrating.join()
    assert [ran.code for ran in ended] == [0], ended


# -- A process that already runs


@pytest.fixture
def web(new_place: Place, tmp_path: Path) -> Iterator[Live]:
    """A web server that was started where the role is granted and nothing is migrated."""
    assert new_place.grant().code == 0
    port = free_port()
    environment = new_place.environment(DATABASE_POOL="4", PUBLIC_URL=f"http://127.0.0.1:{port}")
    live = Live(tmp_path, environment, port, workers=1)
    try:
        live.start_web()
        yield live
    finally:
        live.stop()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def health(live: Live) -> tuple[int, list[str]]:
    """The status, and what mends each problem; there is no scheduler here, which is none."""
    answer = requests.get(f"{live.url}/health", timeout=30)
    mends = [problem["mend"] for problem in answer.json()["problems"]]
    return answer.status_code, [mend for mend in mends if mend != f"python manage.py {SCHEDULER}"]


def test_it_recovers_without_a_restart(new_place: Place, web: Live) -> None:
    assert health(web) == (503, ["python manage.py migrate"])
    assert manage(new_place.environment(), "migrate").code == 0
    assert health(web) == (200, [])
    new_place.run(new_place.admin_url, "REVOKE ALL ON SCHEMA public FROM {role}, PUBLIC")
    assert health(web) == (503, ["python manage.py grant_perms"])
    answer = requests.get(f"{web.url}/api/v1/devices", headers={"Authorization": "Bearer kxa_x"}, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_not_ready")
    assert new_place.grant().code == 0
    assert health(web) == (200, [])
    answer = requests.get(f"{web.url}/api/v1/devices", headers={"Authorization": "Bearer kxa_x"}, timeout=30)
    assert answer.status_code == 401


def test_a_running_scheduler_recovers_without_a_restart(new_place: Place, web: Live) -> None:
    assert manage(new_place.environment(), "migrate").code == 0
    web.start_scheduler()
    wait_for(lambda: "at work" in web.log("scheduler.log"))
    new_place.run(new_place.admin_url, "REVOKE ALL ON SCHEMA public FROM {role}, PUBLIC")
    wait_for(lambda: "failed; the other tasks go on" in web.log("scheduler.log"))
    assert new_place.grant().code == 0
    made = manage(
        new_place.environment(), "shell", "-c",
        "from tests.factories import make_bundle; make_bundle(state='verifying', contents={'words.txt': b'words'})",
    )  # fmt: skip
    assert made.code == 0, made.err
    wait_for(lambda: "task 'verify bundles' handled 1" in web.log("scheduler.log"))
    assert web.scheduler is not None
    assert web.scheduler.poll() is None
