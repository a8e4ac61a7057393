"""The sequence numbers of heartbeats. No number is used more than once."""

import json
import logging
from pathlib import Path

from agent.atomic_files import read_json, write_atomically
from agent.errors import SequenceExhausted

FILE = "sequence.json"
BLOCK = 1000
MAX_NUMBER = 2**53 - 1
# The largest jump that the server may request, so that a malicious server cannot use up the numbers. At one heartbeat
# per second, this many numbers last 34,000 years.
MAX_JUMP = 2**40
# One less than the highest number that the server accepts.
MAX_JUMP_TARGET = MAX_NUMBER - 2**20

log = logging.getLogger(__name__)


class Sequence:
    """Sequence numbers, reserved on disk in blocks. A restart skips the rest of a block.

    If the file is lost, damaged or outdated because the disk was full, the sequence continues too low and the server's
    `next_sequence` corrects it.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE
        try:
            reserved = read_json(self.path, 1000)["reserved"]
        except (OSError, ValueError, KeyError, TypeError):
            reserved = 0
        self.reserved = reserved if type(reserved) is int and 0 <= reserved <= MAX_NUMBER else 0
        self.last = self.reserved

    def next(self) -> int:
        """Return a number that is higher than any before.

        Raises:
            SequenceExhausted: There is no higher number.
        """
        if self.last >= MAX_NUMBER:
            raise SequenceExhausted
        if self.last >= self.reserved:
            self._reserve(self.last + BLOCK)
        self.last += 1
        return self.last

    def continue_at(self, number: object) -> bool:
        """Continue at the number that the server sent. If it is not plausible, return False and change nothing.

        Raises:
            SequenceExhausted: The server has stored such a high number that hardly any are left.
        """
        if type(number) is not int or number <= self.last:
            return False
        if number > MAX_JUMP_TARGET:
            raise SequenceExhausted
        if number - self.last > MAX_JUMP:
            log.error(
                "The server requests the sequence number %d, but this device is at %d. The agent refuses this jump."
                " Check that this is the right server.", number, self.last,
            )  # fmt: skip
            return False
        self._reserve(number + BLOCK)
        self.last = number - 1
        return True

    def start_over(self) -> None:
        """Start from zero, because the server refused this device's number as too high."""
        log.warning("The server refused the sequence number %d as too high. Starting again from zero.", self.last)
        self.last = 0
        self._reserve(BLOCK)

    def _reserve(self, up_to: int) -> None:
        up_to = min(up_to, MAX_NUMBER)
        try:
            write_atomically(self.path, json.dumps({"reserved": up_to}).encode("ascii"))
        except OSError as error:
            log.warning("Sequence numbers cannot be reserved on disk: %s. Continuing without.", error)
        self.reserved = up_to
