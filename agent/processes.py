"""Starting other programs: without a shell, each in a process group of its own, so that it ends with its children."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.config import Config
from agent.errors import DeploymentFailed

TAIL_SIZE = 4096
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Place:
    """Where a bundle's programs run: the release's directory and its state directory."""

    release: Path
    state: Path


def arguments(config: Config, place: Place, command: list[str]) -> list[str]:
    """`command` with its program as a path. Raises `FileNotFoundError`."""
    program = command[0]
    path = str(place.release / program[2:]) if program.startswith("./") else config.program(program)
    return [path, *command[1:]]


def environment(place: Place, extra: dict[str, str] | None = None) -> dict[str, str]:
    """A few variables of the agent's own and the state directory; none of the agent's secrets."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {**kept, **(extra or {}), "KERNEX_STATE_DIR": str(place.state)}


def run(
    config: Config, place: Place, command: list[str], timeout_seconds: float, check: Callable[[], None]
) -> tuple[int, str]:
    """Run a command to its end. Returns its exit code and the tail of what it wrote.

    `check` is called while it runs and may raise; then, and after `timeout_seconds`, the whole process group is killed.
    Raises `TimeoutError`, `OSError` for a program that cannot be started, and whatever `check` raises.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            arguments(config, place, command), cwd=place.release, env=environment(place), stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + timeout_seconds
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise TimeoutError
                check()
                time.sleep(POLL_SECONDS)
        finally:
            kill_group(process.pid, signal.SIGKILL)
            process.wait()
        return process.returncode, tail(output.fileno())


def run_hook(
    config: Config, place: Place, name: str, command: list[str], timeout_seconds: int, check: Callable[[], None]
) -> None:
    """Run a hook. Raises `DeploymentFailed`: `hook_failed` or `hook_timeout`."""
    try:
        code, told = run(config, place, command, timeout_seconds, check)
    except TimeoutError:
        raise DeploymentFailed("hook_timeout", f"{name} did not end within {timeout_seconds} s.") from None
    except OSError as error:
        raise DeploymentFailed("hook_failed", f"{name} could not be started: {error}") from error
    if code != 0:
        raise DeploymentFailed("hook_failed", f"{name} ended with {code}: {told}")


def tail(handle: int) -> str:
    """The last 4 KiB that were written to an open file, as text."""
    size = os.fstat(handle).st_size
    return os.pread(handle, TAIL_SIZE, max(0, size - TAIL_SIZE)).decode("utf-8", "replace").replace("\x00", "")


def kill_group(pid: int, signal_number: int) -> None:
    """Signal a process group that we made; harmless if it is gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal_number)


def of_directory(directory: Path) -> list[int]:
    """The processes that were started for a release whose state directory lies below `directory`.

    They are known by their environment, so that also those are found that were started in the very moment in which
    an agent was killed, and those that left their process group.
    """
    mark = f"KERNEX_STATE_DIR={directory}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            if any(variable.startswith(mark) for variable in (entry / "environ").read_bytes().split(b"\0")):
                found.append(int(entry.name))
    return found


def end_all(directory: Path, grace_seconds: float) -> None:
    """End every process of `of_directory`: asked first, killed after the grace."""
    for pid in of_directory(directory):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while (left := of_directory(directory)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
