"""The agent's side of a shim (`shim_main.py`), which limits a command's log and keeps track of its descendants."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.programs.logs import MAX_FILE_SIZE, ProgramLog
from agent.programs.processes import SHIM_MARK

SCRIPT = Path(__file__).with_name("shim_main.py")
REPLY_TIMEOUT_SECONDS = 60.0
MAX_REPLY_SIZE = 64 * 1024


class CannotStart(Exception):
    """The command does not exist or cannot be executed."""


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """The command that a shim has to start. `mark` lets the agent find the shim and its descendants later."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    mark: str


@dataclass(frozen=True, slots=True)
class Child:
    """A command that runs under a shim. The shim exits after the command, with the same exit code or signal."""

    shim: subprocess.Popen[bytes]
    pid: int


def start_logged(request: LaunchRequest, log: ProgramLog) -> Child:
    """Start a command whose output goes to a log of bounded size. Raises `CannotStart`."""
    return _start(request, {"log": str(log.path), "max_size": MAX_FILE_SIZE})


def start_piped(request: LaunchRequest, output: int) -> Child:
    """Start a command whose output goes to a descriptor. Raises `CannotStart`."""
    return _start(request, {"output": output}, (output,))


def _start(request: LaunchRequest, destination: dict[str, object], descriptors: tuple[int, ...] = ()) -> Child:
    body = {
        "command": request.command, "environment": dict(request.environment), "directory": str(request.directory),
        **destination,
    }  # fmt: skip
    inherited = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ}
    try:
        process = subprocess.Popen(
            [sys.executable, "-S", "-I", str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/",
            env=inherited | {SHIM_MARK: request.mark}, start_new_session=True, pass_fds=descriptors,
        )  # fmt: skip
    except OSError as error:
        raise CannotStart(f"{request.command[0]} cannot be started: {error}") from None
    reply = _exchange(process, json.dumps(body).encode("ascii"))
    pid = reply.get("pid")
    if isinstance(pid, int):
        return Child(process, pid)
    process.kill()
    process.wait()
    raise CannotStart(f"{request.command[0]} cannot be started: {reply.get('error', 'its shim does not respond')}")


def _exchange(process: subprocess.Popen[bytes], request: bytes) -> dict[str, object]:
    """Send a request to a shim and return its reply, which is empty if the shim does not respond in time."""
    assert process.stdin is not None  # noqa: S101
    assert process.stdout is not None  # noqa: S101
    with process.stdin, process.stdout:
        try:
            process.stdin.write(request)
            process.stdin.close()
            if not select.select([process.stdout], [], [], REPLY_TIMEOUT_SECONDS)[0]:
                return {}
            reply = json.loads(process.stdout.readline(MAX_REPLY_SIZE) or b"{}")
        except (OSError, ValueError):
            return {}
    return reply if isinstance(reply, dict) else {}
