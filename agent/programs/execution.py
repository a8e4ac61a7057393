"""Execution of a bundle's commands: without a shell, in a defined environment, each under its own shim."""

import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agent.programs import processes
from agent.programs.processes import MARK
from agent.programs.shim import LaunchRequest, start_piped

OUTPUT_TAIL_SIZE = 4096
POLL_SECONDS = 0.05
READS_AT_ONCE = 64
SHIM_END_SECONDS = 10.0
# The environment variables that commands inherit from the agent: no secrets, nothing from the service manager.
INHERITED_NAMES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The release that a command belongs to. `mark` identifies the processes of its product."""

    directory: Path
    state_directory: Path
    mark: str
    product: str
    version: str
    python: str

    def launch_request(self, command: tuple[str, ...], variables: Mapping[str, str]) -> LaunchRequest:
        """Return the request to a shim that starts a command with these additional variables."""
        arguments = list(command)
        if arguments[0] == "python3":
            arguments[0] = shutil.which(self.python) or self.python
        return LaunchRequest(tuple(arguments), self._environment(variables), self.directory, self.mark)

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return the complete environment of a command. Python must not write its caches into the release."""
        inherited = {name: os.environ[name] for name in INHERITED_NAMES if name in os.environ}
        inherited.setdefault("PATH", os.defpath)
        own = {
            "KERNEX_STATE_DIR": str(self.state_directory),
            "KERNEX_PRODUCT": self.product,
            "KERNEX_VERSION": self.version,
            MARK: self.mark,
        }
        return inherited | {"PYTHONDONTWRITEBYTECODE": "1"} | dict(variables) | own


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command and the end of its output.

    `exit_code` is None if the agent terminated the command, and negative if a signal killed it.
    """

    exit_code: int | None
    output: str


def _never() -> bool:
    return False


def run(
    command: tuple[str, ...],
    context: CommandContext,
    timeout_seconds: float,
    is_stopped: Callable[[], bool] = _never,
) -> CommandResult:
    """Run a command until it exits. After the timeout, terminate it with all processes that it started.

    The command is also terminated when `is_stopped` returns True. It has its own mark, so terminating it does not
    affect the running program of the same product.

    Raises:
        CannotStart: The command does not exist or cannot be executed.
    """
    context = replace(context, mark=f"{context.mark}#{time.monotonic_ns()}")
    deadline = time.monotonic() + timeout_seconds
    reader, writer = os.pipe()
    try:
        try:
            child = start_piped(context.launch_request(command, {}), writer)
        finally:
            os.close(writer)
        try:
            has_exited, tail = _follow(child.shim.pid, reader, lambda: is_stopped() or time.monotonic() >= deadline)
        finally:
            if not is_child_dead(child.shim.pid):
                processes.terminate(lambda: processes.marked(context.mark) | processes.group(child.pid), 0)
            exit_code = wait_for_shim(child.shim)
    finally:
        os.close(reader)
    return CommandResult(exit_code if has_exited else None, tail.decode("utf-8", "replace").strip())


def wait_for_shim(shim: subprocess.Popen[bytes]) -> int:
    """Return the exit code of the command under a shim, negative for a signal. The command has already exited."""
    with suppress(subprocess.TimeoutExpired):
        return shim.wait(SHIM_END_SECONDS)
    shim.kill()
    return shim.wait()


def is_child_dead(pid: int) -> bool:
    """Return whether a child of this process has exited. It is not reaped, so its pid cannot be reused."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _follow(pid: int, reader: int, is_stopped: Callable[[], bool]) -> tuple[bool, bytes]:
    """Read the output until a process exits or `is_stopped` returns True. Return whether it exited, and the tail."""
    os.set_blocking(reader, False)
    tail = b""
    is_open = True
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while not (has_exited := is_child_dead(pid)) and not is_stopped():
            if not is_open:
                time.sleep(POLL_SECONDS)
            elif selector.select(POLL_SECONDS):
                tail, is_open = _read(reader, tail)
    return has_exited, _read(reader, tail)[0]


def _read(reader: int, tail: bytes) -> tuple[bytes, bool]:
    """Read the available output, up to a limit. Return the new tail, and whether more output may follow."""
    for _ in range(READS_AT_ONCE):
        try:
            data = os.read(reader, 65536)
        except BlockingIOError:
            break
        if not data:
            return tail, False
        tail = (tail + data)[-OUTPUT_TAIL_SIZE:]
    return tail, True
