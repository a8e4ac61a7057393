"""Starting commands below a shim (`shim_main.py`), which bounds their log and keeps all their descendants together."""

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
ANSWER_SECONDS = 60.0
MAX_ANSWER_SIZE = 64 * 1024


class CannotStart(Exception):
    """The command does not exist or cannot be executed."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a shim is to start. `mark` is how the agent finds the shim and its descendants again."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    mark: str


@dataclass(frozen=True, slots=True)
class Child:
    """A command that runs below a shim. The shim ends after the command, with its exit code or signal."""

    shim: subprocess.Popen[bytes]
    pid: int


def start_logged(order: Order, log: ProgramLog) -> Child:
    """Start a command whose output goes to a log of bounded size. Raises `CannotStart`."""
    return _start(order, {"log": str(log.path), "max_size": MAX_FILE_SIZE})


def start_piped(order: Order, output: int) -> Child:
    """Start a command whose output goes to a descriptor. Raises `CannotStart`."""
    return _start(order, {"output": output}, (output,))


def _start(order: Order, destination: dict[str, object], descriptors: tuple[int, ...] = ()) -> Child:
    body = {
        "command": order.command, "environment": dict(order.environment), "directory": str(order.directory),
        **destination,
    }  # fmt: skip
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME") if name in os.environ}
    try:
        process = subprocess.Popen(
            [sys.executable, "-S", "-I", str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/",
            env=kept | {SHIM_MARK: order.mark}, start_new_session=True, pass_fds=descriptors,
        )  # fmt: skip
    except OSError as error:
        raise CannotStart(f"{order.command[0]} cannot be started: {error}") from None
    answer = _talk(process, json.dumps(body).encode("ascii"))
    pid = answer.get("pid")
    if isinstance(pid, int):
        return Child(process, pid)
    process.kill()
    process.wait()
    raise CannotStart(f"{order.command[0]} cannot be started: {answer.get('error', 'its shim does not answer')}")


def _talk(process: subprocess.Popen[bytes], order: bytes) -> dict[str, object]:
    """Give a shim its order and return its answer; nothing if it does not answer in time."""
    assert process.stdin is not None  # noqa: S101
    assert process.stdout is not None  # noqa: S101
    with process.stdin, process.stdout:
        try:
            process.stdin.write(order)
            process.stdin.close()
            if not select.select([process.stdout], [], [], ANSWER_SECONDS)[0]:
                return {}
            answer = json.loads(process.stdout.readline(MAX_ANSWER_SIZE) or b"{}")
        except (OSError, ValueError):
            return {}
    return answer if isinstance(answer, dict) else {}
