"""What can go wrong on a device, sorted by what the caller decides.

AgentError
├── Unreachable        the server or the network is away: try the same again later
├── Answered           the server said no; `status` and `code` say why
├── DeploymentFailed   this deployment cannot go on; `reason_code` is reported
│   ├── Refused          nothing was changed on the device: reported as `rejected`
│   └── Stopped          a cancel or a SIGTERM came at a point where stopping is allowed
├── BadState           the state directory holds what the agent cannot trust
└── BadConfig          an option holds what it does not accept
"""


class AgentError(Exception):
    """The root of all."""


class Unreachable(AgentError):
    """No usable answer. `retry_after_seconds` is what the server asked for, or None."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Answered(AgentError):
    """The server answered with an error; the agent branches on `status` and `code` only."""

    def __init__(self, status: int, code: str, message: str, details: dict[str, object]) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.details = details


class DeploymentFailed(AgentError):
    """The deployment ends here. `reason_code` is one of docs/agent.md's words."""

    def __init__(self, reason_code: str, message: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code


class Refused(DeploymentFailed):
    """Before anything was changed."""


class Stopped(AgentError):
    """Work was interrupted where that is allowed."""


class BadState(AgentError):
    """The message says what is wrong and what to do."""


class BadConfig(AgentError):
    """The message names the option and what it accepts."""
