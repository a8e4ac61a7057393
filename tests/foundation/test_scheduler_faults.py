"""The scheduler under trouble: two at once, killed in the middle of a step, steps that fail and recover."""

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
from tests.operations.places import ROOT

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[[], "subprocess.Popen[bytes]"]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def start() -> Iterator[Start]:
    """Begins a scheduler as a process of its own, on this test's database."""
    database = connection.settings_dict
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)
    processes: list[subprocess.Popen[bytes]] = []

    def begin() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "manage.py", "run_scheduler"]
        processes.append(subprocess.Popen(command, cwd=ROOT, env=os.environ | {"DATABASE_URL": url}))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.wait()


def make_silent_devices(count: int) -> list[Device]:
    """Devices that fell silent, of which nobody took note yet."""
    long_ago = timezone.now() - timedelta(days=1)
    devices = [make_device() for _ in range(count)]
    Device.objects.update(last_heartbeat_at=long_ago)
    return devices


def noted() -> int:
    return Event.objects.filter(kind="device.offline").count()


def test_every_step_twice_at_once_is_applied_once() -> None:
    """A holder that lost its session without noticing works beside its successor for a moment."""
    make_silent_devices(40)
    way = make_device_deployment("waiting")
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
    assert noted() == 40
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM devices_command WHERE device_deployment_id = %s", [way.pk])
        assert cursor.fetchone() == (1,)


def test_two_processes_do_each_thing_once(start: Start) -> None:
    both = [start(), start()]
    wait_for(holder)
    make_silent_devices(10)
    wait_for(lambda: noted() >= 10)
    both[0].send_signal(signal.SIGTERM)
    both[1].send_signal(signal.SIGTERM)
    assert [process.wait(20) for process in both] == [0, 0]
    assert noted() == 10


def test_a_scheduler_killed_in_the_middle_of_a_step_leaves_it_to_the_next(start: Start) -> None:
    first = start()
    wait_for(holder)
    with transaction.atomic(), connection.cursor() as cursor:
        # The step that writes this event stands still, with its devices already changed and not committed.
        cursor.execute("LOCK TABLE events_event IN SHARE MODE")
        make_device_silent_elsewhere()
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'events_event'::regclass"
        wait_for(lambda: _ask(waits) > 0)
        first.kill()
        first.wait()
    second = start()
    wait_for(lambda: noted() == 1)
    assert second.poll() is None
    assert Device.objects.get().offline_noted_at is not None


def make_device_silent_elsewhere() -> None:
    """Commit a silent device while this thread's own transaction goes on."""

    def make() -> None:
        make_silent_devices(1)
        connection.close()

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()


def _ask(question: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(question)
        return int(cursor.fetchone()[0])


def test_a_begun_step_is_finished_before_the_end(start: Start) -> None:
    process = start()
    wait_for(holder)
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'events_event'::regclass"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE events_event IN SHARE MODE")
        make_device_silent_elsewhere()
        wait_for(lambda: _ask(waits) > 0)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
    assert process.wait(20) == 0
    assert noted() == 1


def test_a_step_that_goes_on_failing_is_tried_less_and_less_and_recovers() -> None:
    is_broken = True

    def sometimes() -> int:
        if is_broken:
            raise RuntimeError("a defect in a step")
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


def test_whatever_a_step_raises_the_others_run() -> None:
    ran: list[str] = []

    def breaks_the_transaction() -> int:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
        return 0

    def leaves_an_open_cursor() -> int:
        connection.cursor().execute("SELECT 1")
        raise KeyError

    def last() -> int:
        ran.append("last")
        return Device.objects.count()

    steps = [Task("one", breaks_the_transaction, 1), Task("two", leaves_an_open_cursor, 1), Task("three", last, 1)]
    assert Scheduler(steps).run_once() == ["one", "two"]
    assert ran == ["last"]


def test_steps_have_names_and_sensible_rhythms() -> None:
    assert len({step.name for step in TASKS}) == len(TASKS)
    assert [step.name for step in TASKS if not 0.1 <= step.every_seconds <= 3600] == []
