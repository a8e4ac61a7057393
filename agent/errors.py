"""The agent's errors, and the exit codes for scripts and service managers.

AgentError
├── BadConfiguration     2  an option is missing or invalid
├── NotEnrolled          3  this device is not enrolled at this server, and no token is configured
├── Refused              4  the server refused the request (5: this device is decommissioned)
├── TryLater             6  the server cannot be reached, is busy or has failed
├── AlreadyRunning       7  another agent is using this state directory
├── BrokenState          8  the state directory cannot be used, or its contents are damaged
│   └── SequenceExhausted   no higher sequence number is left for this device's key
├── JobFailed           9  a job did not succeed
├── NothingToRollBack   10  the product has no previous release
└── InstallationFailed      an installation failed; becomes a report, never an exit code

Callers retry after `TryLater` but not after `Refused`.
"""

from collections.abc import Mapping
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of the agent; docs/agent.md describes them."""

    OK = 0
    BUG = 1
    CONFIGURATION = 2
    NOT_ENROLLED = 3
    REFUSED = 4
    DECOMMISSIONED = 5
    UNREACHABLE = 6
    ALREADY_RUNNING = 7
    BROKEN_STATE = 8
    JOB_FAILED = 9
    NOTHING_TO_ROLL_BACK = 10


class AgentError(Exception):
    """The root of the agent's errors. The message is a sentence for people."""

    exit_code = ExitCode.BUG


class BadConfiguration(AgentError):
    """An option is missing or invalid."""

    exit_code = ExitCode.CONFIGURATION


class NotEnrolled(AgentError):
    """This device is not enrolled at this server, and no token is configured."""

    exit_code = ExitCode.NOT_ENROLLED


class Refused(AgentError):
    """The control plane refused a request. `details` is the `error` object of the response."""

    def __init__(self, status: int, code: str, message: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(f"The server refused: {message} ({status} {code})")
        self.status = status
        self.code = code
        self.details = details or {}
        self.exit_code = ExitCode.DECOMMISSIONED if code == "decommissioned" else ExitCode.REFUSED


class TryLater(AgentError):
    """A temporary failure. `retry_after_seconds` is the minimum delay that the server asked for, or 0."""

    exit_code = ExitCode.UNREACHABLE

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class AlreadyRunning(AgentError):
    """Another agent is using this state directory."""

    exit_code = ExitCode.ALREADY_RUNNING


class BrokenState(AgentError):
    """The state directory cannot be used, or its contents are damaged."""

    exit_code = ExitCode.BROKEN_STATE


class SequenceExhausted(BrokenState):
    """No higher sequence number is left for this device's key."""

    def __init__(self) -> None:
        super().__init__(
            "The sequence numbers of this device's key are used up, so the server accepts no more heartbeats."
            " Decommission this device on the control plane, move identity.key, sequence.json and device.json out of"
            " the state directory, and enrol again with a new token. The installed releases are not affected."
        )


class JobFailed(AgentError):
    """A job did not succeed."""

    exit_code = ExitCode.JOB_FAILED


class NothingToRollBack(AgentError):
    """The product has no previous release."""

    exit_code = ExitCode.NOTHING_TO_ROLL_BACK


class InstallationFailed(AgentError):
    """An installation failed.

    `reason_code` is the stable code in the report. `is_refusal` means that nothing had been changed or downloaded yet.
    """

    def __init__(self, reason_code: str, message: str, *, is_refusal: bool = False) -> None:
        super().__init__(message)
        self.reason_code = reason_code
        self.is_refusal = is_refusal
