"""The scheduler: a process beside the web server that runs all time-driven tasks."""

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

import bundles.scheduling
import deployments.scheduling
import devices.scheduling
import foundation.accounts.scheduling
import foundation.events.scheduling
import foundation.rate_limits.scheduling
from foundation.scheduler import Scheduler, holder
from operations.database.preflight import refuse_ungranted
from operations.monitoring.error_reports import report_defects

TASKS = [
    *devices.scheduling.TASKS,
    *bundles.scheduling.TASKS,
    *deployments.scheduling.TASKS,
    *foundation.accounts.scheduling.TASKS,
    *foundation.events.scheduling.TASKS,
    *foundation.rate_limits.scheduling.TASKS,
]


class Command(BaseCommand):
    help = (
        "Run the time-driven tasks of all apps until SIGTERM. A second scheduler waits, and takes over if the first "
        "one ends."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="run each task once; exit code 1 if a task failed")

    def handle(self, *args: Any, **options: Any) -> None:
        report_defects()
        refuse_ungranted()
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        scheduler = Scheduler(TASKS, stop)
        if options["once"]:
            self.run_once(scheduler)
        else:
            scheduler.run()

    def run_once(self, scheduler: Scheduler) -> None:
        """Run each task once. Raises `CommandError` if another scheduler runs, or if a task failed."""
        try:
            if not scheduler.lock.acquire():
                if scheduler.lock.database_is_away:
                    raise CommandError("The database cannot be reached; the log says why.")
                other = holder()
                raise CommandError(f"A scheduler is already running on {other.host if other else 'another host'}.")
            failed = scheduler.run_once()
        finally:
            scheduler.lock.release()
        if failed:
            raise CommandError(f"These tasks failed: {', '.join(failed)}. The log says why.")
