"""Numbers that are never used twice."""

import json
import logging
from pathlib import Path

from agent.atomic_files import read_json, write_atomically

FILE = "sequence.json"
BLOCK = 1000
MAX_NUMBER = 2**53 - 1

log = logging.getLogger(__name__)


class Sequence:
    """The numbers of heartbeats. They are reserved on disk in blocks; what is left of a block at a stop is given up.

    A lost or damaged file begins anew, and the server's `next_sequence` mends that. So it does when a restart follows
    numbers that the disk did not take: a device on a full disk stays in reach.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE
        try:
            reserved = read_json(self.path, 1000)["reserved"]
            self.reserved = reserved if type(reserved) is int and 0 <= reserved <= MAX_NUMBER else 0
        except (OSError, ValueError, KeyError, TypeError):
            self.reserved = 0
        self.last = self.reserved

    def next(self) -> int:
        """A number higher than any before."""
        if self.last >= self.reserved:
            self._reserve(self.last + BLOCK)
        self.last += 1
        return self.last

    def jump(self, free: object) -> bool:
        """Go on at a number that the server says is free. False, and nothing changes, if that makes no sense."""
        if type(free) is not int or not self.last < free <= MAX_NUMBER:
            return False
        self._reserve(free + BLOCK)
        self.last = free - 1
        return True

    def _reserve(self, up_to: int) -> None:
        try:
            write_atomically(self.path, json.dumps({"reserved": up_to}).encode("ascii"))
        except OSError as error:
            log.warning("The numbers of heartbeats cannot be reserved: %s. Going on without.", error)
        self.reserved = up_to
