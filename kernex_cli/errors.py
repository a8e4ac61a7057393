"""Errors that end a command early, and the exit codes that scripts can branch on.

CommandFailed
├── BadUsage         2  the command line is wrong
├── NotAllowed       3  not logged in, or the API token's role does not allow the request
├── Refused          4  the server refused the request
├── Unreachable      5  the server did not respond, or it failed
├── WaitFailed       6  the request was accepted, but its result failed or did not arrive in time
└── LocalProblem     7  a problem on this machine
    ├── BadManifest     the bundle breaks a rule; `code` names the rule
    └── FileChanged     a file changed while the command was running
"""

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of `kernex`; docs/command-line.md describes them."""

    OK = 0
    BUG = 1
    USAGE = 2
    NOT_ALLOWED = 3
    REFUSED = 4
    UNREACHABLE = 5
    WAIT_FAILED = 6
    LOCAL = 7
    PAUSED = 8
    INTERRUPTED = 130
    PIPE_CLOSED = 141


class CommandFailed(Exception):
    """The message is a sentence that tells the user what to do next."""

    exit_code = Exit.BUG


class BadUsage(CommandFailed):
    exit_code = Exit.USAGE


class NotAllowed(CommandFailed):
    exit_code = Exit.NOT_ALLOWED


class Refused(CommandFailed):
    """A 4xx response. `code` is the server's stable error code, `error` the full error object."""

    exit_code = Exit.REFUSED

    def __init__(self, status: int, code: str, message: str, error: dict[str, object] | None = None) -> None:
        super().__init__(f"{message} ({code})" if code else message)
        self.status = status
        self.code = code
        self.error = error or {}


class Unreachable(CommandFailed):
    exit_code = Exit.UNREACHABLE


class WaitFailed(CommandFailed):
    exit_code = Exit.WAIT_FAILED


class LocalProblem(CommandFailed):
    exit_code = Exit.LOCAL


class BadManifest(LocalProblem):
    """The bundle breaks a rule. `code` is the code that the server would return."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


class FileChanged(LocalProblem):
    def __init__(self, path: str) -> None:
        super().__init__(f"{path} changed while it was being pushed: run the same command again.")
