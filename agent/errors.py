"""What can go wrong, and the exit codes that scripts and service managers can branch on.

AgentError
├── BadConfiguration     2  an option is missing or wrong
├── NotEnrolled          3  this device is not enrolled at this server, and no token is configured
├── Refused              4  the server understood and refused (5: this device is decommissioned)
├── TryLater             6  no server answered, or it is busy or broken
├── AlreadyRunning       7  another agent works on this state directory
├── BrokenState          8  the state directory cannot be used, or what it holds is damaged
│   └── SequenceExhausted   no higher sequence number is left for this device's key
├── WorkFailed           9  a job did not succeed
├── NothingToRollBack   10  the product has no previous release
└── InstallationFailed      an installation failed; ends as a report, never as an exit code

A caller decides one thing about the server: it tries again after `TryLater`, and does not after `Refused`.
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
    """An option is missing or wrong."""

    exit_code = Exit.CONFIGURATION


class NotEnrolled(AgentError):
    """This device is not enrolled at this server, and no token is configured."""

    exit_code = Exit.NOT_ENROLLED


class Refused(AgentError):
    """The control plane understood and refused. `details` is the `error` object of the response."""

    def __init__(self, status: int, code: str, message: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(f"The server refused: {message} ({status} {code})")
        self.status = status
        self.code = code
        self.details = details or {}
        self.exit_code = Exit.DECOMMISSIONED if code == "decommissioned" else Exit.REFUSED


class TryLater(AgentError):
    """Something that may pass. `retry_after_seconds` is the least wait that the server asked for, or 0."""

    exit_code = Exit.UNREACHABLE

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class AlreadyRunning(AgentError):
    """Another agent works on this state directory."""

    exit_code = Exit.ALREADY_RUNNING


class BrokenState(AgentError):
    """The state directory cannot be used, or what it holds is damaged."""

    exit_code = Exit.BROKEN_STATE


class SequenceExhausted(BrokenState):
    """No higher sequence number is left for this device's key."""

    def __init__(self) -> None:
        super().__init__(
            "The sequence numbers of this device's key are used up, so the server accepts no heartbeat any more."
            " Decommission this device on the control plane, move identity.key, sequence.json and device.json out of"
            " the state directory, and enrol again with a new token. What is installed stays."
        )


class WorkFailed(AgentError):
    """A job did not succeed."""

    exit_code = Exit.WORK_FAILED


class NothingToRollBack(AgentError):
    """The product has no previous release."""

    exit_code = Exit.NOTHING_TO_ROLL_BACK


class InstallationFailed(AgentError):
    """An installation failed.

    `reason_code` is the stable code of the report. `is_refusal` if nothing had been changed or downloaded yet.
    """

    def __init__(self, reason_code: str, message: str, *, is_refusal: bool = False) -> None:
        super().__init__(message)
        self.reason_code = reason_code
        self.is_refusal = is_refusal
