"""The scheduler's loop, and the command that runs it as a process."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from foundation.scheduler import Holder, Lock, Scheduler, Task, holder
from operations.management.commands import run_scheduler

ROOT = Path(__file__).resolve().parent.parent.parent
# Inside a transaction the database shows one unchanging picture of its sessions.
pytestmark = pytest.mark.django_db(transaction=True)


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def fails() -> int:
    raise RuntimeError("a defect in a step")


@pytest.fixture
def lock() -> Iterator[Lock]:
    lock = Lock()
    yield lock
    lock.release()


class Work:
    """A step that counts its runs and ends the loop after so many."""

    def __init__(self, scheduler_stop: threading.Event, runs: int = 1) -> None:
        self.stop = scheduler_stop
        self.wanted = runs
        self.runs = 0

    def __call__(self) -> int:
        self.runs += 1
        if self.runs == self.wanted:
            self.stop.set()
        return 0


def test_it_runs_every_step_until_told_to_stop() -> None:
    stop = threading.Event()
    often, seldom = Work(stop, 5), Work(stop, 99)
    Scheduler([Task("often", often, 0.05), Task("seldom", seldom, 3600)], stop).run()
    assert (often.runs, seldom.runs) == (5, 1)


def test_a_failing_step_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    work = Work(stop, 3)
    with caplog.at_level(logging.ERROR):
        scheduler = Scheduler([Task("broken", fails, 0.01), Task("work", work, 0.01)], stop)
        scheduler.run()
    assert work.runs == 3
    # It is logged with its traceback, and tried again only after a pause.
    assert [record.exc_info is not None for record in caplog.records] == [True]
    assert scheduler.due_at["broken"] > time.monotonic() + 1


def test_looking_long_in_vain_is_not_repeated_at_once() -> None:
    def look() -> int:
        time.sleep(0.05)
        return 0

    def work() -> int:
        time.sleep(0.05)
        return 1

    scheduler = Scheduler([Task("look", look, 0.01), Task("work", work, 0.01)])
    scheduler.run_once()
    assert scheduler.due_at["look"] > time.monotonic() + 0.1
    assert scheduler.due_at["work"] < time.monotonic() + 0.1


def test_a_connection_lost_by_one_step_is_replaced_for_the_next() -> None:
    def lose() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return 0

    def ask() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return 1

    assert Scheduler([Task("lose", lose, 1), Task("ask", ask, 1)]).run_once() == ["lose"]


def test_no_step_begins_after_the_stop() -> None:
    stop = threading.Event()
    first, second = Work(stop), Work(stop)
    Scheduler([Task("first", first, 1), Task("second", second, 1)], stop).run()
    assert (first.runs, second.runs) == (1, 0)


def test_only_one_holds_the_lock(lock: Lock) -> None:
    other = Lock()
    # Handed over at once, not when the database notices that a session has ended.
    for _ in range(20):
        assert lock.take()
        assert not other.take()
        lock.release()
        assert other.take()
        other.release()


def test_the_database_knows_who_works(lock: Lock) -> None:
    assert holder() is None
    lock.take()
    at_work = holder()
    assert isinstance(at_work, Holder)
    assert at_work.host in os.uname().nodename
    time.sleep(0.01)
    assert lock.is_held()
    later = holder()
    assert later is not None
    assert later.seen_at > at_work.seen_at
    assert later.since == at_work.since


def test_a_lost_session_is_noticed(lock: Lock) -> None:
    lock.take()
    assert lock.session is not None
    with lock.session.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    wait_for(lambda: not lock.is_held())
    assert lock.take()


def test_a_database_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    port = connection.settings_dict["PORT"]
    lock = Lock()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    assert not lock.take()
    monkeypatch.setitem(connection.settings_dict, "PORT", port)
    assert lock.take()
    lock.release()


def test_once_runs_each_step_once(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(threading.Event(), 99)
    monkeypatch.setattr(run_scheduler, "TASKS", [Task("work", work, 1)])
    call_command("run_scheduler", "--once")
    assert work.runs == 1


def test_once_tells_which_steps_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_scheduler, "TASKS", [Task("broken", fails, 1)])
    with pytest.raises(CommandError, match="broken"):
        call_command("run_scheduler", "--once")
    assert holder() is None


def test_once_leaves_the_work_to_whoever_is_at_it(lock: Lock) -> None:
    lock.take()
    with pytest.raises(CommandError, match="at work already"):
        call_command("run_scheduler", "--once")


def test_every_room_has_its_steps_in_the_list() -> None:
    names = [step.name for step in run_scheduler.TASKS]
    assert len(names) == len(set(names))
    assert {"verify uploads", "offer", "enforce deadlines", "finish"} <= set(names)


# -- As processes


@pytest.fixture
def start() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    database = connection.settings_dict
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)
    processes: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "run_scheduler"], cwd=ROOT, env=os.environ | {"DATABASE_URL": url}
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()


def holder_pid() -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE objsubid = 2"
            " AND datname = current_database() AND application_name LIKE 'kernex scheduler%'"
        )
        rows = cursor.fetchall()
    return int(rows[0][0].split()[-1]) if rows else None


def test_a_second_scheduler_takes_over_when_the_first_dies(start: Callable[[], subprocess.Popen[bytes]]) -> None:
    first = start()
    wait_for(lambda: holder_pid() == first.pid)
    second = start()
    time.sleep(1)
    assert holder_pid() == first.pid
    first.kill()
    wait_for(lambda: holder_pid() == second.pid)


def test_sigterm_ends_it_cleanly(start: Callable[[], subprocess.Popen[bytes]]) -> None:
    process = start()
    wait_for(lambda: holder_pid() == process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert holder() is None


def test_a_restarted_database_is_found_again(start: Callable[[], subprocess.Popen[bytes]]) -> None:
    process = start()
    wait_for(lambda: holder_pid() == process.pid)
    before = holder()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = user AND datname = current_database() AND pid <> pg_backend_pid()"
        )
    wait_for(lambda: (now := holder()) is not None and before is not None and now.since > before.since)
    assert process.poll() is None
