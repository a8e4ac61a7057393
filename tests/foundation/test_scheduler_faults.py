"""Scheduler faults: two processes at once, a kill during a task, tasks that fail and recover."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from devices.models import Device
from foundation.events.models import Event
from foundation.scheduler import LONGEST_PAUSE_SECONDS, Scheduler, Task, holder
from operations.management.commands.run_scheduler import TASKS
from tests.factories import make_device, make_device_deployment
from tests.operations.databases import ROOT

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[[], "subprocess.Popen[bytes]"]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a scheduler process on this test's database."""
    database = connection.settings_dict
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)
    processes: list[subprocess.Popen[bytes]] = []

    def start_scheduler() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "manage.py", "run_scheduler"]
        processes.append(subprocess.Popen(command, cwd=ROOT, env=os.environ | {"DATABASE_URL": url}))
        return processes[-1]

    yield start_scheduler
    for process in processes:
        process.kill()
        process.wait()


def make_silent_devices(count: int) -> list[Device]:
    """Create devices that went offline without an event so far."""
    long_ago = timezone.now() - timedelta(days=1)
    devices = [make_device() for _ in range(count)]
    Device.objects.update(last_heartbeat_at=long_ago)
    return devices


def offline_event_count() -> int:
    return Event.objects.filter(kind="device.offline").count()


def test_concurrent_runs_of_every_task_have_one_effect() -> None:
    """A scheduler that lost its session without noticing briefly runs beside its successor."""
    make_silent_devices(40)
    device_deployment = make_device_deployment("waiting")
    failed: list[str] = []
    together = threading.Barrier(3)

    def work() -> None:
        together.wait()
        failed.extend(Scheduler(TASKS).run_once())
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert offline_event_count() == 40
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM devices_command WHERE device_deployment_id = %s", [device_deployment.pk])
        assert cursor.fetchone() == (1,)


def test_two_processes_record_each_event_once(start: Start) -> None:
    schedulers = [start(), start()]
    wait_for(holder)
    make_silent_devices(10)
    wait_for(lambda: offline_event_count() >= 10)
    schedulers[0].send_signal(signal.SIGTERM)
    schedulers[1].send_signal(signal.SIGTERM)
    assert [process.wait(20) for process in schedulers] == [0, 0]
    assert offline_event_count() == 10


def test_the_next_scheduler_repeats_a_task_whose_process_was_killed(start: Start) -> None:
    first = start()
    wait_for(holder)
    with transaction.atomic(), connection.cursor() as cursor:
        # The task blocks while it writes this event; its devices are already changed but not committed.
        cursor.execute("LOCK TABLE events_event IN SHARE MODE")
        commit_silent_device()
        blocked_inserts = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'events_event'::regclass"
        wait_for(lambda: query_number(blocked_inserts) > 0)
        first.kill()
        first.wait()
    second = start()
    wait_for(lambda: offline_event_count() == 1)
    assert second.poll() is None
    assert Device.objects.get().offline_noted_at is not None


def commit_silent_device() -> None:
    """Commit a silent device from another thread, while this thread's transaction stays open."""

    def make() -> None:
        make_silent_devices(1)
        connection.close()

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()


def query_number(statement: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return int(cursor.fetchone()[0])


def test_a_running_task_finishes_before_the_process_stops(start: Start) -> None:
    process = start()
    # The second event comes in the second round, so tasks that run rarely and also write events have run by then.
    commit_silent_device()
    wait_for(lambda: offline_event_count() == 1)
    commit_silent_device()
    wait_for(lambda: offline_event_count() == 2)
    blocked_inserts = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'events_event'::regclass"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE events_event IN SHARE MODE")
        commit_silent_device()
        wait_for(lambda: query_number(blocked_inserts) > 0)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
    assert process.wait(20) == 0
    assert offline_event_count() == 3


def test_a_failing_task_backs_off_and_recovers() -> None:
    is_broken = True

    def sometimes() -> int:
        if is_broken:
            raise RuntimeError("a bug in a task")
        return 0

    scheduler = Scheduler([Task("sometimes", sometimes, 0.01)])
    pauses = []
    for _ in range(8):
        assert scheduler.run_once() == ["sometimes"]
        pauses.append(round(scheduler.due_at["sometimes"] - time.monotonic()))
    assert pauses == [2, 4, 8, 16, 32, *[LONGEST_PAUSE_SECONDS] * 3]
    is_broken = False
    assert scheduler.run_once() == []
    assert scheduler.due_at["sometimes"] < time.monotonic() + 1


def test_other_tasks_run_whatever_a_task_raises() -> None:
    finished_tasks: list[str] = []

    def breaks_the_transaction() -> int:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
        return 0

    def leaves_an_open_cursor() -> int:
        connection.cursor().execute("SELECT 1")
        raise KeyError

    def last() -> int:
        finished_tasks.append("last")
        return Device.objects.count()

    tasks = [Task("one", breaks_the_transaction, 1), Task("two", leaves_an_open_cursor, 1), Task("three", last, 1)]
    assert Scheduler(tasks).run_once() == ["one", "two"]
    assert finished_tasks == ["last"]


def test_tasks_have_unique_names_and_sensible_intervals() -> None:
    assert len({task.name for task in TASKS}) == len(TASKS)
    assert [task.name for task in TASKS if not 0.1 <= task.every_seconds <= 3600] == []
