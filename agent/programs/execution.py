"""Running a bundle's commands: without a shell, with an environment of their own, in a process group of their own."""

import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from agent.programs import processes
from agent.programs.processes import MARK

OUTPUT_TAIL_SIZE = 4096
POLL_SECONDS = 0.05
READS_AT_ONCE = 64
# What of the agent's environment a bundle may see: its secrets and its service manager's variables are not among it.
PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command runs: the release's directory, its state directory, and the mark of its product."""

    directory: Path
    state_directory: Path
    mark: str
    product: str
    version: str
    python: str


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended. `exit_code` is None if it timed out, negative for a signal; `output` is its tail."""

    exit_code: int | None
    output: str


class CannotStart(Exception):
    """The program is not there or cannot be executed."""


def start(command: tuple[str, ...], place: Place, extra: Mapping[str, str], output: int) -> subprocess.Popen[bytes]:
    """Start a command with its output going to a descriptor. Raises `CannotStart`."""
    words = list(command)
    if words[0] == "python3":
        words[0] = shutil.which(place.python) or place.python
    try:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=place.directory,
            env=environment(place, extra), start_new_session=True, close_fds=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise CannotStart(f"{words[0]} cannot be started: {error}") from None


def environment(place: Place, extra: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a command. Python must not write its caches into the release."""
    own = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    own.setdefault("PATH", os.defpath)
    named = {
        "KERNEX_STATE_DIR": str(place.state_directory),
        "KERNEX_PRODUCT": place.product,
        "KERNEX_VERSION": place.version,
        MARK: place.mark,
    }
    return own | {"PYTHONDONTWRITEBYTECODE": "1"} | dict(extra) | named


def run(command: tuple[str, ...], place: Place, timeout_seconds: float) -> Result:
    """Run a command to its end, or end it. Nothing that it started survives it. Raises `CannotStart`.

    Its mark is its own, so that ending it leaves the running program of the same product alone.
    """
    reading, writing = os.pipe()
    place = replace(place, mark=f"{place.mark}#{time.monotonic_ns()}")
    try:
        process = start(command, place, {}, writing)
    except CannotStart:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        has_ended, tail = _follow(process.pid, reading, time.monotonic() + timeout_seconds)
    finally:
        exit_code = _end(process, place.mark)
        os.close(reading)
    return Result(exit_code if has_ended else None, tail.decode("utf-8", "replace").strip())


def has_ended(pid: int) -> bool:
    """Whether a child has ended. It is not reaped yet: until then its group's number is nobody else's."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _follow(pid: int, reading: int, gives_up_at: float) -> tuple[bool, bytes]:
    """Keep the tail of the output until the process ends. Nobody waits for children that hold the pipe open."""
    os.set_blocking(reading, False)
    tail = b""
    is_open = True
    with selectors.DefaultSelector() as selector:
        selector.register(reading, selectors.EVENT_READ)
        while not (ended := has_ended(pid)) and time.monotonic() < gives_up_at:
            if not is_open:
                time.sleep(POLL_SECONDS)
            elif selector.select(POLL_SECONDS):
                tail, is_open = _read(reading, tail)
    return ended, _read(reading, tail)[0]


def _read(reading: int, tail: bytes) -> tuple[bytes, bool]:
    """What is there, though never without end, and whether more may come."""
    for _ in range(READS_AT_ONCE):
        try:
            data = os.read(reading, 65536)
        except BlockingIOError:
            break
        if not data:
            return tail, False
        tail = (tail + data)[-OUTPUT_TAIL_SIZE:]
    return tail, True


def _end(process: subprocess.Popen[bytes], mark: str) -> int:
    """Kill the group and whatever left it, then reap. Returns the exit code, negative for a signal."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    exit_code = process.wait()
    processes.end(lambda: processes.marked(mark), 0)
    return exit_code
