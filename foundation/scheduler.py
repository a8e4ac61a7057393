"""The one loop that makes everything time-driven. Each room lists its steps as `TASKS` in its module `scheduling`.

One scheduler works, further ones wait: whoever holds the advisory lock works, and the database gives the lock back when
its holder's connection ends. Steps are safe to run twice at once all the same, because a holder may lose its connection
without noticing at once. The session that holds the lock is also what says whether a scheduler is alive.
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
# Two numbers of our own: who else uses this database will hardly use them.
LOCK_KEY = (0x6B65726E, 1)
# How often the lock's session is asked whether it still lives, and how often a waiting scheduler asks for the lock.
PING_SECONDS = 2.0
# A step that fails again and again is tried at least this often.
LONGEST_PAUSE_SECONDS = 60.0
# Looking in vain takes at most this part of the time.
IDLE_FACTOR = 4
# The database notices within about a minute that the holder's machine is gone.
LOCK_SESSION = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"
HOLDER = """
    SELECT split_part(application_name, ' ', 3), backend_start, state_change
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = %s AND objsubid = 2
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass(frozen=True, slots=True)
class Task:
    """`function` moves what is due and returns how many things it moved; it is called every so often."""

    name: str
    function: Callable[[], int]
    every_seconds: float


@dataclass(frozen=True, slots=True)
class Holder:
    """The scheduler at work: on which host, since when, and when it last said that it lives."""

    host: str
    since: datetime
    seen_at: datetime


def holder() -> Holder | None:
    """Who works right now, as the database knows it. None if no scheduler runs."""
    with connection.cursor() as cursor:
        cursor.execute(HOLDER, LOCK_KEY)
        row = cursor.fetchone()
    return Holder(*row) if row else None


class Lock:
    """The advisory lock, on a connection of its own that no pool takes back."""

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
            if not self.database_is_away:  # said once an outage
                logger.warning("waiting for the database: %s", str(error).strip().partition("\n")[0])
            self.database_is_away = True
            return False
        self.database_is_away = False
        return taken

    def is_held(self) -> bool:
        """Whether the session that got the lock still lives. What is asked here is the scheduler's sign of life."""
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
        """Give the lock back and end its session. The database may take a moment to notice the end by itself."""
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
    """Runs steps when they are due, until `stop` is set. A step that was begun is finished."""

    def __init__(self, steps: Iterable[Task], stop: threading.Event | None = None) -> None:
        self.steps = list(steps)
        self.stop = stop or threading.Event()
        self.lock = Lock()
        self.due_at = {step.name: 0.0 for step in self.steps}
        self.failures = {step.name: 0 for step in self.steps}

    def run(self) -> None:
        """Wait for the lock, work while it is held, and again, until told to stop."""
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
        """Run what is due while the lock is held."""
        while not self.stop.is_set() and self.lock.is_held():
            for step in self.steps:
                if self.stop.is_set():
                    return
                if self.due_at[step.name] <= time.monotonic():
                    self.run_task(step)
            next_due = min(self.due_at.values(), default=0.0) - time.monotonic()
            self.stop.wait(max(0.0, min(next_due, PING_SECONDS)))

    def run_once(self) -> list[str]:
        """Run every step once. Returns the names of those that failed."""
        return [step.name for step in self.steps if not self.run_task(step)]

    def run_task(self, step: Task) -> bool:
        """Run one step and decide when it is due again. False if it failed; the failure is logged, no more."""
        began, moved = time.monotonic(), 0
        close_old_connections()
        try:
            moved = step.function()
        except Exception:
            self.failures[step.name] += 1
            logger.exception("step %r failed, the other steps go on", step.name)
        else:
            self.failures[step.name] = 0
        ended, failures = time.monotonic(), self.failures[step.name]
        if moved:
            logger.info("step %r moved %d in %.2f s", step.name, moved, ended - began)
        # What failed, or looked for long and found nothing, is not repeated at once.
        failing = min(2.0**failures, LONGEST_PAUSE_SECONDS) if failures else 0.0
        idle = 0.0 if moved else min(IDLE_FACTOR * (ended - began), LONGEST_PAUSE_SECONDS)
        self.due_at[step.name] = ended + max(step.every_seconds, failing, idle)
        return not failures
