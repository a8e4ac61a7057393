"""The sequence numbers of heartbeats, none of which is used twice."""

import json
import logging
from pathlib import Path

from agent.atomic_files import read_json, write_atomically
from agent.errors import SequenceExhausted

FILE = "sequence.json"
BLOCK = 1000
MAX_NUMBER = 2**53 - 1
# How far a server may move the sequence, so that a server that lies cannot use the numbers up. A device that sends a
# heartbeat every second needs 34,000 years for as many.
MAX_JUMP = 2**40
MAX_JUMP_TARGET = MAX_NUMBER - 2**20

log = logging.getLogger(__name__)


class Sequence:
    """Numbers that are reserved on disk in blocks; what is left of a block when the agent stops is not used.

    After a lost or damaged file it starts from zero and the server's `next_sequence` corrects it. The same happens
    after a restart if the disk did not accept a reservation, so a device on a full disk stays in reach.
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
        """Continue at a number that the server says is free. Return False if it is not plausible; nothing changes then.

        Raises:
            SequenceExhausted: The server has accepted so high a number that hardly any is left.
        """
        if type(number) is not int or number <= self.last:
            return False
        if number > MAX_JUMP_TARGET:
            raise SequenceExhausted
        if number - self.last > MAX_JUMP:
            log.error(
                "The server asks for the sequence number %d, but this device is at %d. The jump is refused; check which"
                " server answers.", number, self.last,
            )  # fmt: skip
            return False
        self._reserve(number + BLOCK)
        self.last = number - 1
        return True

    def start_over(self) -> None:
        """Start from zero, because the server refuses the numbers of this device as too high."""
        log.warning("The server refuses the sequence number %d as too high. Asking for a lower one.", self.last)
        self.last = 0
        self._reserve(BLOCK)

    def _reserve(self, up_to: int) -> None:
        up_to = min(up_to, MAX_NUMBER)
        try:
            write_atomically(self.path, json.dumps({"reserved": up_to}).encode("ascii"))
        except OSError as error:
            log.warning("Sequence numbers cannot be reserved on disk: %s. Continuing without.", error)
        self.reserved = up_to
