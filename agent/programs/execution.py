"""Running a bundle's commands: without a shell, with an environment of their own, each below a shim of its own."""

import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agent.programs import processes
from agent.programs.processes import MARK
from agent.programs.shim import Order, start_piped

OUTPUT_TAIL_SIZE = 4096
POLL_SECONDS = 0.05
READS_AT_ONCE = 64
SHIM_END_SECONDS = 10.0
# What a bundle may see of the agent's environment. It holds no secret and no variable of the service manager.
PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The release that a command belongs to. `mark` identifies the processes of its product."""

    directory: Path
    state_directory: Path
    mark: str
    product: str
    version: str
    python: str

    def order(self, command: tuple[str, ...], variables: Mapping[str, str]) -> Order:
        """Return what a shim needs to start a command with some variables beyond the usual ones."""
        words = list(command)
        if words[0] == "python3":
            words[0] = shutil.which(self.python) or self.python
        return Order(tuple(words), self._environment(variables), self.directory, self.mark)

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return the whole environment of a command. Python must not write its caches into the release."""
        inherited = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
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
    """How a command ended. `exit_code` is None after a timeout, negative for a signal; `output` is its tail."""

    exit_code: int | None
    output: str


def run(command: tuple[str, ...], context: CommandContext, timeout_seconds: float) -> CommandResult:
    """Run a command to its end, or end it after the timeout. Nothing that it started survives it.

    It has a mark of its own, so that ending it leaves the running program of the same product alone.

    Raises:
        CannotStart: the command does not exist or cannot be executed.
    """
    context = replace(context, mark=f"{context.mark}#{time.monotonic_ns()}")
    gives_up_at = time.monotonic() + timeout_seconds
    reading, writing = os.pipe()
    try:
        try:
            child = start_piped(context.order(command, {}), writing)
        finally:
            os.close(writing)
        try:
            is_ended, tail = _follow(child.shim.pid, reading, gives_up_at)
        finally:
            if not has_ended(child.shim.pid):
                processes.end(lambda: processes.marked(context.mark) | processes.group(child.pid), 0)
            exit_code = wait_for_shim(child.shim)
    finally:
        os.close(reading)
    return CommandResult(exit_code if is_ended else None, tail.decode("utf-8", "replace").strip())


def wait_for_shim(shim: subprocess.Popen[bytes]) -> int:
    """Return how the command below a shim ended, which it just did: its exit code, or negative for a signal."""
    with suppress(subprocess.TimeoutExpired):
        return shim.wait(SHIM_END_SECONDS)
    shim.kill()
    return shim.wait()


def has_ended(pid: int) -> bool:
    """Return whether a child of this process has ended. It is not reaped, so its pid stays its own."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _follow(pid: int, reading: int, gives_up_at: float) -> tuple[bool, bytes]:
    """Keep the tail of the output until a process ends, and return whether it ended, and the tail."""
    os.set_blocking(reading, False)
    tail = b""
    is_open = True
    with selectors.DefaultSelector() as selector:
        selector.register(reading, selectors.EVENT_READ)
        while not (is_ended := has_ended(pid)) and time.monotonic() < gives_up_at:
            if not is_open:
                time.sleep(POLL_SECONDS)
            elif selector.select(POLL_SECONDS):
                tail, is_open = _read(reading, tail)
    return is_ended, _read(reading, tail)[0]


def _read(reading: int, tail: bytes) -> tuple[bytes, bool]:
    """Read what is there, but not without end. Return the new tail, and whether more may come."""
    for _ in range(READS_AT_ONCE):
        try:
            data = os.read(reading, 65536)
        except BlockingIOError:
            break
        if not data:
            return tail, False
        tail = (tail + data)[-OUTPUT_TAIL_SIZE:]
    return tail, True
