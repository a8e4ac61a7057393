"""What can go wrong, and the exit codes that scripts and service managers can branch on.

AgentError
├── BadConfiguration     2  an option is missing or wrong
├── NotEnrolled          3  there is no identity at this server yet, and no token to get one
├── Refused              4  the server understood and said no (5: this device is decommissioned)
├── TryLater             6  no server answered, or it is busy or broken
├── AlreadyRunning       7  another agent works on this state directory
├── BrokenState          8  the state directory cannot be used, or what it holds is damaged
├── WorkFailed           9  the work that was asked for ended otherwise than hoped
├── NothingToRollBack   10  the product has no previous release
└── InstallationFailed              one step of an installation failed; ends as a report, never as an exit code

A caller has two decisions to make about the server: `TryLater` is tried again, `Refused` is not.
"""

from collections.abc import Mapping
from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of the agent; docs/agent.md describes them."""

    OK = 0
    DEFECT = 1
    CONFIGURATION = 2
    NOT_ENROLLED = 3
    REFUSED = 4
    DECOMMISSIONED = 5
    UNREACHABLE = 6
    ALREADY_RUNNING = 7
    BROKEN_STATE = 8
    WORK_FAILED = 9
    NOTHING_TO_ROLL_BACK = 10


class AgentError(Exception):
    """The message is a sentence that says what to do."""

    exit_code = Exit.DEFECT


class BadConfiguration(AgentError):
    exit_code = Exit.CONFIGURATION


class NotEnrolled(AgentError):
    exit_code = Exit.NOT_ENROLLED


class Refused(AgentError):
    """An answer of the control plane that stays the same however often it is asked."""

    def __init__(self, status: int, code: str, message: str, error: Mapping[str, object] | None = None) -> None:
        super().__init__(f"The server refused: {message} ({status} {code})")
        self.status = status
        self.code = code
        self.error = error or {}
        self.exit_code = Exit.DECOMMISSIONED if code == "decommissioned" else Exit.REFUSED


class TryLater(AgentError):
    """Something that may pass. `retry_after_seconds` is the least that the server asked for, or 0."""

    exit_code = Exit.UNREACHABLE

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class AlreadyRunning(AgentError):
    exit_code = Exit.ALREADY_RUNNING


class BrokenState(AgentError):
    exit_code = Exit.BROKEN_STATE


class WorkFailed(AgentError):
    exit_code = Exit.WORK_FAILED


class NothingToRollBack(AgentError):
    exit_code = Exit.NOTHING_TO_ROLL_BACK


class InstallationFailed(AgentError):
    """`reason_code` is the stable word of the report; `is_refusal` if nothing had been changed or fetched in vain."""

    def __init__(self, reason_code: str, message: str, *, is_refusal: bool = False) -> None:
        super().__init__(message)
        self.reason_code = reason_code
        self.is_refusal = is_refusal
