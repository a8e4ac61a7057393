"""Power cuts: run the agent's commands in child processes, and kill each at a chosen crash point.

A crash point is a call that changes the disk or starts a process. `python -m tests.agent.crash_points` reads one JSON
line for each run, {"arguments", "environment", "kill_at", "log"}, and replies with {"code", "crash_points"}. It kills
the child with SIGKILL immediately before crash point number `kill_at`. No `finally` block runs, and the processes of
the child are left running, as after a real kill. The agent is imported once and forked for each run.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent import main

# The functions of `os` whose calls are crash points.
DISK_FUNCTIONS = (
    "fsync",
    "fdatasync",
    "replace",
    "rename",
    "link",
    "symlink",
    "unlink",
    "ftruncate",
    "write",
    "mkdir",
    "rmdir",
)
LOCK = threading.Lock()


class CrashPointCounter:
    """Counts crash points in a file, and kills the process at one of them."""

    def __init__(self, kill_at: int, descriptor: int) -> None:
        self.kill_at = kill_at
        self.descriptor = descriptor
        self.count = 0

    def reach(self) -> None:
        with LOCK:
            self.count += 1
            os.pwrite(self.descriptor, str(self.count).ljust(10).encode(), 0)
            if self.count == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that reaches a crash point before it calls `function`."""

        def wrapper(*values: Any, **named: Any) -> Any:
            self.reach()
            return function(*values, **named)

        return wrapper


def run_child(request: dict[str, Any], descriptor: int) -> None:
    """Run one command of the agent in this process, and exit with its exit code."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(request["environment"])
    counter = CrashPointCounter(request["kill_at"], descriptor)
    for name in DISK_FUNCTIONS:
        setattr(os, name, counter.counted(getattr(os, name)))
    subprocess.Popen.__init__ = counter.counted(subprocess.Popen.__init__)  # type: ignore[method-assign]
    code = main.main(request["arguments"])
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    """Run a child for each line of standard input."""
    for line in sys.stdin:
        request = json.loads(line)
        path = Path(request["log"] + ".crash_points")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        pid = os.fork()
        if pid == 0:
            try:
                run_child(request, descriptor)
            except BaseException as error:
                sys.stderr.write(repr(error))
                os._exit(99)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        count = int(os.pread(descriptor, 10, 0) or b"0")
        os.close(descriptor)
        print(json.dumps({"code": code, "crash_points": count}), flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
