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
# Inside a transaction, the view of sessions does not change.
pytestmark = pytest.mark.django_db(transaction=True)


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def fails() -> int:
    raise RuntimeError("a bug in a task")


@pytest.fixture
def lock() -> Iterator[Lock]:
    lock = Lock()
    yield lock
    lock.release()


class Work:
    """A task that counts its runs and stops the loop after `runs` of them."""

    def __init__(self, scheduler_stop: threading.Event, runs: int = 1) -> None:
        self.stop = scheduler_stop
        self.wanted = runs
        self.runs = 0

    def __call__(self) -> int:
        self.runs += 1
        if self.runs == self.wanted:
            self.stop.set()
        return 0


def test_it_runs_every_task_until_stopped() -> None:
    stop = threading.Event()
    frequent, rare = Work(stop, 5), Work(stop, 99)
    Scheduler([Task("often", frequent, 0.05), Task("seldom", rare, 3600)], stop).run()
    assert (frequent.runs, rare.runs) == (5, 1)


def test_a_failing_task_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    work = Work(stop, 3)
    with caplog.at_level(logging.ERROR):
        scheduler = Scheduler([Task("broken", fails, 0.01), Task("work", work, 0.01)], stop)
        scheduler.run()
    assert work.runs == 3
    # It is logged with its traceback, and retried only after a pause.
    assert [record.exc_info is not None for record in caplog.records] == [True]
    assert scheduler.due_at["broken"] > time.monotonic() + 1


def test_a_slow_task_without_work_is_not_repeated_at_once() -> None:
    def find_nothing() -> int:
        time.sleep(0.05)
        return 0

    def work() -> int:
        time.sleep(0.05)
        return 1

    scheduler = Scheduler([Task("look", find_nothing, 0.01), Task("work", work, 0.01)])
    scheduler.run_once()
    assert scheduler.due_at["look"] > time.monotonic() + 0.1
    assert scheduler.due_at["work"] < time.monotonic() + 0.1


def test_a_connection_lost_by_a_task_is_replaced_for_the_next() -> None:
    def lose_connection() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return 0

    def query() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return 1

    assert Scheduler([Task("lose", lose_connection, 1), Task("ask", query, 1)]).run_once() == ["lose"]


def test_no_task_starts_after_the_stop() -> None:
    stop = threading.Event()
    first, second = Work(stop), Work(stop)
    Scheduler([Task("first", first, 1), Task("second", second, 1)], stop).run()
    assert (first.runs, second.runs) == (1, 0)


def test_only_one_scheduler_holds_the_lock(lock: Lock) -> None:
    other = Lock()
    # The handover is immediate; it does not wait until the database notices that a session has ended.
    for _ in range(20):
        assert lock.acquire()
        assert not other.acquire()
        lock.release()
        assert other.acquire()
        other.release()


def test_the_database_names_the_lock_holder(lock: Lock) -> None:
    assert holder() is None
    lock.acquire()
    first_holder = holder()
    assert isinstance(first_holder, Holder)
    assert first_holder.host in os.uname().nodename
    time.sleep(0.01)
    assert lock.is_held()
    later_holder = holder()
    assert later_holder is not None
    assert later_holder.seen_at > first_holder.seen_at
    assert later_holder.since == first_holder.since


def test_a_lost_session_is_detected(lock: Lock) -> None:
    lock.acquire()
    assert lock.session is not None
    with lock.session.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    wait_for(lambda: not lock.is_held())
    assert lock.acquire()


def test_the_lock_can_be_acquired_after_a_database_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    port = connection.settings_dict["PORT"]
    lock = Lock()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    assert not lock.acquire()
    monkeypatch.setitem(connection.settings_dict, "PORT", port)
    assert lock.acquire()
    lock.release()


def test_once_runs_each_task_once(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(threading.Event(), 99)
    monkeypatch.setattr(run_scheduler, "TASKS", [Task("work", work, 1)])
    call_command("run_scheduler", "--once")
    assert work.runs == 1


def test_once_names_the_failed_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_scheduler, "TASKS", [Task("broken", fails, 1)])
    with pytest.raises(CommandError, match="broken"):
        call_command("run_scheduler", "--once")
    assert holder() is None


def test_once_fails_while_another_scheduler_runs(lock: Lock) -> None:
    lock.acquire()
    with pytest.raises(CommandError, match="is already running"):
        call_command("run_scheduler", "--once")


def test_the_list_has_the_tasks_of_every_app() -> None:
    names = [task.name for task in run_scheduler.TASKS]
    assert len(names) == len(set(names))
    assert {"verify uploads", "offer", "enforce deadlines", "finish"} <= set(names)


@pytest.fixture
def start() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    database = connection.settings_dict
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)
    processes: list[subprocess.Popen[bytes]] = []

    def start_scheduler() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "run_scheduler"], cwd=ROOT, env=os.environ | {"DATABASE_URL": url}
        )
        processes.append(process)
        return process

    yield start_scheduler
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


def test_sigterm_stops_it_cleanly(start: Callable[[], subprocess.Popen[bytes]]) -> None:
    process = start()
    wait_for(lambda: holder_pid() == process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert holder() is None


def test_it_reconnects_after_a_database_restart(start: Callable[[], subprocess.Popen[bytes]]) -> None:
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
