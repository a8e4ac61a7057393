"""The journal: one small file that is replaced atomically before the work that it describes begins.

Each decision is one write, so a power cut happens either before or after it. A commit is one write too: the new release
becomes current, the job is removed, and its last report is queued.
"""

import copy
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.atomic_files import is_disk_full, read_limited, write_atomically
from agent.jobs.encoding import decode, encode
from agent.jobs.state import State

FILE = "journal.json"
BALLAST = "ballast"
BALLAST_SIZE = 1024 * 1024
MAX_SIZE = 16 * 1024 * 1024

log = logging.getLogger(__name__)


class Journal:
    """The state on disk and in memory. Thread-safe.

    `changed` is notified after each change. `needs_rebuild` means that the journal does not list all installed
    releases, so the launcher has to find them on disk.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE
        self.ballast = state_dir / BALLAST
        self.changed = threading.Condition(threading.RLock())
        self.needs_rebuild = False
        self._state = self._load()
        self.refill_ballast()

    @property
    def state(self) -> State:
        """A snapshot of the state. Callers must not change it."""
        with self.changed:
            return self._state

    @contextmanager
    def change(self) -> Iterator[State]:
        """Yield a copy to change, and write it at the end of the block. An exception discards the changes.

        Raises:
            OSError: The journal cannot be written.
        """
        with self.changed:
            state = copy.deepcopy(self._state)
            yield state
            data = encode(state)
            self.write_with_ballast(lambda: write_atomically(self.path, data))
            self._state = state
            self.changed.notify_all()

    def refill_ballast(self) -> None:
        """Reserve some disk space, so that the result of a job can be written even if the disk is full."""
        if not self.ballast.exists():
            try:
                write_atomically(self.ballast, bytes(BALLAST_SIZE))
            except OSError as error:
                log.warning("The reserve file %s cannot be written: %s.", self.ballast, error.strerror)

    def write_with_ballast(self, write: Callable[[], None]) -> None:
        """Call `write`. If the disk is full, release the reserved space and call it again."""
        try:
            write()
        except OSError as error:
            if not is_disk_full(error) or not self.ballast.exists():
                raise
            self.ballast.unlink(missing_ok=True)
            write()

    def _load(self) -> State:
        try:
            decoded = decode(read_limited(self.path, MAX_SIZE))
        except FileNotFoundError:
            self.needs_rebuild = True
            return State()
        except (OSError, ValueError) as error:
            return self._start_over(error)
        for entry in decoded.omitted:
            log.error("An entry of the journal cannot be read and is omitted: %s.", entry)
        self.needs_rebuild = decoded.has_lost_products
        return decoded.state

    def _start_over(self, error: Exception) -> State:
        """Move a damaged journal aside and start with an empty one.

        The installed releases are found on disk. Unfinished jobs are lost, and the server ends them at their deadline.
        Report numbers continue above all numbers used before.
        """
        self.needs_rebuild = True
        damaged_path = self.path.with_name(f"{FILE}.damaged-{int(time.time())}")
        try:
            self.path.replace(damaged_path)
        except OSError as refusal:
            log.error("The journal is damaged (%s) and cannot be moved aside: %s.", error, refusal.strerror)
        else:
            log.error(
                "The journal is damaged (%s) and was moved to %s. The installed releases are not affected.",
                error,
                damaged_path,
            )
        return State(report_floor=int(time.time()) % 2**30)
