"""The loop that runs everything time-driven. Each app lists its tasks as `TASKS` in its module `scheduling`.

The scheduler that holds an advisory lock works, and further ones wait for it; the database releases the lock when the
holder's connection ends. A holder may not notice at once that it lost its connection, so two schedulers may work for a
moment: every task is safe to run twice at once. The session with the lock also shows whether a scheduler is alive.
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

# How events name the scheduler.
ACTOR = "scheduler"
# Two numbers of our own: other programs in this database will hardly use them.
LOCK_KEY = (0x6B65726E, 1)
# How often the holder checks its session, and how often a waiting scheduler asks for the lock.
PING_SECONDS = 2.0
# A task that keeps failing is retried at least this often.
LONGEST_PAUSE_SECONDS = 60.0
# A task that found nothing to do pauses this many times as long as it took.
IDLE_FACTOR = 4
# With these the database notices within about a minute that the holder's machine is gone.
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
    """The working scheduler: its host, since when it works, and when it last gave a sign of life."""

    host: str
    since: datetime
    seen_at: datetime


def holder() -> Holder | None:
    """Return the working scheduler as the database sees it; None if no scheduler runs."""
    with connection.cursor() as cursor:
        cursor.execute(HOLDER, LOCK_KEY)
        row = cursor.fetchone()
    return Holder(*row) if row else None


class Lock:
    """The advisory lock, on a connection of its own outside the pool."""

    def __init__(self) -> None:
        self.session: BaseDatabaseWrapper | None = None
        self.database_is_away = False

    def take(self) -> bool:
        """Try to get the lock, without waiting. False if another scheduler has it or the database is away."""
        try:
            if self.session is None:
                self.session = _own_session()
            with self.session.cursor() as cursor:
                cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", LOCK_KEY)
                taken = bool(cursor.fetchone()[0])
        except Error as error:
            self.release()
            if not self.database_is_away:  # logged once per outage
                logger.warning("waiting for the database: %s", str(error).strip().partition("\n")[0])
            self.database_is_away = True
            return False
        self.database_is_away = False
        return taken

    def is_held(self) -> bool:
        """Whether the session with the lock is still alive. This query is also the scheduler's sign of life."""
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
        """Release the lock and end its session. Without the release the database may notice the end only later."""
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
    """Runs tasks when they are due, until `stop` is set. A running task is finished first."""

    def __init__(self, tasks: Iterable[Task], stop: threading.Event | None = None) -> None:
        self.tasks = list(tasks)
        self.stop = stop or threading.Event()
        self.lock = Lock()
        self.due_at = {task.name: 0.0 for task in self.tasks}
        self.failures = {task.name: 0 for task in self.tasks}

    def run(self) -> None:
        """Wait for the lock and work while it is held, again and again until `stop` is set."""
        try:
            while not self.stop.is_set():
                if self.lock.take():
                    logger.info("this scheduler is at work")
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
        """Run one task and decide when it is due again. False if it failed; the failure is logged."""
        began, handled = time.monotonic(), 0
        close_old_connections()
        try:
            handled = task.function()
        except Exception:
            self.failures[task.name] += 1
            logger.exception("task %r failed; the other tasks go on", task.name)
        else:
            self.failures[task.name] = 0
        ended, failures = time.monotonic(), self.failures[task.name]
        if handled:
            logger.info("task %r handled %d in %.2f s", task.name, handled, ended - began)
        # A task that failed, or that took long and found nothing, is not repeated at once.
        failing = min(2.0**failures, LONGEST_PAUSE_SECONDS) if failures else 0.0
        idle = 0.0 if handled else min(IDLE_FACTOR * (ended - began), LONGEST_PAUSE_SECONDS)
        self.due_at[task.name] = ended + max(task.every_seconds, failing, idle)
        return not failures
