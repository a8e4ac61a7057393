"""The supervisor: keeps the programs of this device running, stops them, and adopts them after a crash of the agent."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.programs import processes
from agent.programs.program import Program
from agent.programs.shim import CannotStart

logger = logging.getLogger(__name__)


def _always_restart(_: Program) -> bool:
    return True


@dataclass(slots=True)
class Supervisor:
    """All programs of this device.

    `on_crash` is called with each program that exits without being stopped. If it returns False, the program is not
    restarted.
    """

    stop_grace_seconds: float
    on_crash: Callable[[Program], bool] = _always_restart
    programs: dict[str, Program] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def find(self, product: str) -> Program | None:
        with self.lock:
            return self.programs.get(product)

    def start(self, program: Program) -> None:
        """Start a program and keep it running, after terminating leftovers of its product. Raises `CannotStart`."""
        self.terminate_leftovers(program.context.mark)
        with self.lock:
            self._launch(program)
            self.programs[program.product] = program

    def start_or_retry(self, program: Program) -> None:
        """Start a program. If it cannot be started now, retry later."""
        try:
            self.start(program)
        except CannotStart as error:
            logger.error("%s", error)
            program.last_exit = str(error)
            with self.lock:
                program.schedule_restart()
                self.programs[program.product] = program

    def adopt(self, program: Program) -> bool:
        """Adopt a program that an earlier agent started. Return False if it no longer runs."""
        if not program.adopt():
            return False
        with self.lock:
            self.programs[program.product] = program
        logger.info("%s still runs as process %d.", program.product, program.pid)
        return True

    def stop(self, product: str) -> None:
        """Stop a program and all processes that it started. Does nothing if the program does not run."""
        with self.lock:
            program = self.programs.pop(product, None)
        if program is not None and not program.terminate(self.stop_grace_seconds):
            logger.error("Processes of %s cannot be killed.", product)

    def stop_all(self) -> None:
        """Stop all programs in parallel, so that their grace periods do not add up."""
        with self.lock:
            names = list(self.programs)
        threads = [threading.Thread(target=self.stop, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def terminate_leftovers(self, mark: str) -> None:
        """Terminate the programs, hooks and health commands with this mark that a killed agent left running."""
        processes.terminate(lambda: processes.marked(mark, with_commands=True), self.stop_grace_seconds)

    def terminate_leftover_commands(self, mark: str) -> None:
        """Terminate the hooks and health commands with this mark that a killed agent left running."""
        processes.terminate(lambda: processes.marked(mark, with_commands=True) - processes.marked(mark), 0)

    def poll(self) -> None:
        """Detect programs that have exited, and restart those that are due. Call this about twice a second."""
        with self.lock:
            for program in list(self.programs.values()):
                if program.is_crash_looping:
                    continue
                if program.retry_at is None and not program.is_running:
                    program.record_exit()
                    logger.warning("%s ended with %s.", program.product, program.last_exit)
                    self._schedule_restart(program)
                elif program.retry_at is not None and time.monotonic() >= program.retry_at:
                    self._restart(program)

    def _restart(self, program: Program) -> None:
        try:
            self._launch(program)
        except CannotStart as error:
            program.count_exit()
            program.last_exit = str(error)
            self._schedule_restart(program)

    def _schedule_restart(self, program: Program) -> None:
        """Schedule the restart of a program, unless it crashed too often."""
        program.schedule_restart()
        program.is_crash_looping = not self.on_crash(program)

    def _launch(self, program: Program) -> None:
        program.launch()
        logger.info("Started %s as process %d.", program.product, program.pid)
