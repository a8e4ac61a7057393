"""What the agent remembers, in small files that are each replaced in one step.

state.json   who the device is, sequence numbers, clock offset, command ids that were applied
job.json     the deployment that is under way, and how far it got (written before the work it names)
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent import files
from agent.errors import BadState

# Sequence numbers are reserved this many at a time: one sync a block, and never a number used twice.
SEQUENCE_BLOCK = 100
COMMANDS_REMEMBERED = 500


@dataclass
class State:
    """The content of state.json. `reserved_until` is the first sequence number that is not reserved yet."""

    path: Path
    device_id: str = ""
    server: str = ""
    root_sha256: str = ""  # of the trust root's first version, from the enrolment token; kept for later
    interval_seconds: float = 60.0
    clock_offset_seconds: float = 0.0
    reserved_until: int = 1
    attributes_version: int = 0
    attributes_sha256: str = ""
    seen_commands: list[int] = field(default_factory=list)
    unacknowledged: list[int] = field(default_factory=list)
    next_sequence: int = 0  # within the reserved block; not kept

    @classmethod
    def load(cls, path: Path) -> "State":
        """What `path` holds; empty for a new device. Raises `BadState`."""
        kept = files.read_json(path)
        if kept is None:
            return cls(path)
        try:
            state = cls(path, **kept)
        except TypeError as error:
            raise BadState(f"{path} is of another version of the agent ({error}): move it away.") from error
        state.next_sequence = state.reserved_until  # what was reserved before may have been used
        return state

    def save(self) -> None:
        kept = asdict(self)
        del kept["path"], kept["next_sequence"]
        files.write_json(self.path, kept)

    def take_sequence(self) -> int:
        """A number that was never used: whole blocks are reserved on disk before any of them is."""
        if self.next_sequence == 0 or self.next_sequence >= self.reserved_until:
            self.next_sequence = max(self.reserved_until, self.next_sequence)
            self.reserved_until = self.next_sequence + SEQUENCE_BLOCK
            self.save()
        self.next_sequence += 1
        return self.next_sequence - 1

    def jump_sequence(self, number: int) -> None:
        """The server has seen higher numbers than this state knows: go on from `number`, never back."""
        self.next_sequence = max(self.next_sequence, number)

    def has_seen(self, command_id: int) -> bool:
        """Whether a command was applied already."""
        return command_id in self.seen_commands

    def note_command(self, command_id: int) -> None:
        """Remember that a command is applied, and that its acknowledgement is due (again)."""
        if command_id not in self.unacknowledged:
            self.unacknowledged.append(command_id)
        if command_id not in self.seen_commands:
            self.seen_commands = [*self.seen_commands, command_id][-COMMANDS_REMEMBERED:]
        self.save()

    def acknowledged(self, command_ids: list[int]) -> None:
        """The server took note of these."""
        if command_ids:
            self.unacknowledged = [number for number in self.unacknowledged if number not in command_ids]
            self.save()


# How far a deployment got. Each name is written before the work that it names.
BEFORE_POINT_OF_NO_RETURN = ("accepted", "fetching", "staging")
BEFORE_HEALTHY = ("switching", "starting", "checking")
AFTER_HEALTHY = ("committing", "reporting")


@dataclass
class Job:
    """The content of job.json: one device deployment under way."""

    path: Path
    deployment_id: str
    attempt: int
    product: str
    version: str
    manifest_sha256: str
    manifest_size: int
    command_id: int = 0  # the command that asked for it
    step: str = "accepted"
    starts: int = 1
    report: int = 0
    cancel: bool = False
    previous: str = ""  # the release that `current` named before, for the rollback
    outcome: str = ""
    reason_code: str = ""
    message: str = ""
    timings: dict[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Job | None":
        kept = files.read_json(path)
        return None if kept is None else cls(path, **kept)

    @classmethod
    def from_payload(cls, path: Path, payload: dict[str, Any], command_id: int) -> "Job":
        """From a deploy command. Raises KeyError, TypeError or ValueError for one that is no deploy command."""
        bundle = payload["bundle"]
        return cls(
            path,
            deployment_id=str(payload["deployment_id"]),
            attempt=int(payload["attempt"]),
            product=str(bundle["name"]),
            version=str(bundle["version"]),
            manifest_sha256=str(bundle["manifest_sha256"]),
            manifest_size=int(bundle["manifest_size"]),
            command_id=command_id,
        )

    def save(self) -> None:
        kept = asdict(self)
        del kept["path"]
        files.write_json(self.path, kept)

    def move_to(self, step: str) -> None:
        self.step = step
        self.save()

    def finish(self) -> None:
        files.remove(self.path)
