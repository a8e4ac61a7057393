"""The loop that runs all time-driven tasks. Each app lists its tasks as `TASKS` in its module `scheduling`.

Only the scheduler that holds an advisory lock runs tasks; others wait for the lock. The database releases the lock when
the holder's connection ends. A holder may notice the loss of its connection late, so two schedulers may run tasks for a
moment: every task must be safe to run concurrently. The session with the lock also shows whether a scheduler is alive.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from django.db import Error, close_old_connections, connection
from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger(__name__)

# The actor that events record for the scheduler.
ACTOR = "scheduler"
# Other programs in this database are unlikely to use these two numbers.
LOCK_KEY = (0x6B65726E, 1)
# How often the holder checks its session, and how often a waiting scheduler tries to get the lock.
PING_SECONDS = 2.0
# A task that keeps failing is retried at least this often.
LONGEST_PAUSE_SECONDS = 60.0
# A task that had nothing to do pauses for this many times its duration.
IDLE_FACTOR = 4
# With these settings the database notices within about a minute that the holder's machine is unreachable.
LOCK_SESSION = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
HOLDER = """
    SELECT split_part(application_name, ' ', 3), backend_start, state_change
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = %s AND objsubid = 2
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass(frozen=True, slots=True)
class Task:
    """`function` does what is due and returns how many rows it handled; it runs every `every_seconds`."""

    name: str
    function: Callable[[], int]
    every_seconds: float


@dataclass(frozen=True, slots=True)
class Holder:
    """The running scheduler: its host, its start, and the time of its last query."""

    host: str
    since: datetime
    seen_at: datetime


def holder() -> Holder | None:
    """Return the running scheduler, as the database sees it; None if no scheduler runs."""
    with connection.cursor() as cursor:
        cursor.execute(HOLDER, LOCK_KEY)
        row = cursor.fetchone()
    return Holder(*row) if row else None


class Lock:
    """The advisory lock, on a dedicated connection outside the pool."""

    def __init__(self) -> None:
        self.session: BaseDatabaseWrapper | None = None
        self.database_is_away = False

    def acquire(self) -> bool:
        """Try to get the lock without waiting. Return False if another scheduler has it or the database is down."""
        try:
            if self.session is None:
                self.session = _own_session()
            with self.session.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", LOCK_KEY)
                is_acquired = bool(cursor.fetchone()[0])
        except Error as error:
            self.release()
            if not self.database_is_away:  # logged once per outage
                logger.warning("waiting for the database: %s", str(error).strip().partition("\n")[0])
            self.database_is_away = True
            return False
        self.database_is_away = False
        return is_acquired

    def is_held(self) -> bool:
        """Return whether the session with the lock is alive. This query also updates `Holder.seen_at`."""
        try:
            if self.session is None:
                return False
            with self.session.cursor() as cursor:
                cursor.execute("SELECT 1")
            return True
        except Error:
            self.release()
            return False

    def release(self) -> None:
        """Release the lock and end its session. Without it, the database may notice late that the session has ended."""
        session, self.session = self.session, None
        if session is None:
            return
        with suppress(Error), session.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock_all()")
        with suppress(Error):
            session.close()


def _own_session() -> BaseDatabaseWrapper:
    session = connection.copy()
    session.settings_dict["OPTIONS"].pop("pool", None)
    session.settings_dict["OPTIONS"]["application_name"] = f"kernex scheduler {socket.gethostname()[:32]} {os.getpid()}"
    with session.cursor() as cursor:
        cursor.execute(LOCK_SESSION)
    return session


class Scheduler:
    """Runs tasks when they are due, until `stop` is set. A running task is completed first."""

    def __init__(self, tasks: Iterable[Task], stop: threading.Event | None = None) -> None:
        self.tasks = list(tasks)
        self.stop = stop or threading.Event()
        self.lock = Lock()
        self.due_at = {task.name: 0.0 for task in self.tasks}
        self.failures = {task.name: 0 for task in self.tasks}

    def run(self) -> None:
        """Wait for the lock and run tasks while holding it, until `stop` is set."""
        try:
            while not self.stop.is_set():
                if self.lock.acquire():
                    logger.info("this scheduler is running")
                    self.work()
                else:
                    self.stop.wait(PING_SECONDS)
        finally:
            self.lock.release()

    def work(self) -> None:
        """Run the tasks that are due while the lock is held."""
        while not self.stop.is_set() and self.lock.is_held():
            for task in self.tasks:
                if self.stop.is_set():
                    return
                if self.due_at[task.name] <= time.monotonic():
                    self.run_task(task)
            next_due = min(self.due_at.values(), default=0.0) - time.monotonic()
            self.stop.wait(max(0.0, min(next_due, PING_SECONDS)))

    def run_once(self) -> list[str]:
        """Run every task once. Return the names of those that failed."""
        return [task.name for task in self.tasks if not self.run_task(task)]

    def run_task(self, task: Task) -> bool:
        """Run one task and set when it is due again. Return False if it failed; the failure is logged."""
        began, handled = time.monotonic(), 0
        close_old_connections()
        try:
            handled = task.function()
        except Exception:
            self.failures[task.name] += 1
            logger.exception("task %r failed; the other tasks continue", task.name)
        else:
            self.failures[task.name] = 0
        ended, failures = time.monotonic(), self.failures[task.name]
        if handled:
            logger.info("task %r handled %d in %.2f s", task.name, handled, ended - began)
        # A task that failed, or that took long without work, is delayed.
        failing = min(2.0**failures, LONGEST_PAUSE_SECONDS) if failures else 0.0
        idle = 0.0 if handled else min(IDLE_FACTOR * (ended - began), LONGEST_PAUSE_SECONDS)
        self.due_at[task.name] = ended + max(task.every_seconds, failing, idle)
        return not failures
