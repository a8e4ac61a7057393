"""Power cuts: a process that runs the agent's commands in children and kills each at a chosen moment.

`python -m tests.agent.power` reads a JSON line for each run, {"words", "environment", "kill_at", "log"}, and answers
with {"code", "moments"}. A moment is a call that changes the disk or starts a process. The child is killed by
SIGKILL just before its moment number `kill_at`: no `finally` runs, and its processes stay behind as after a real kill.
This is a process of its own, so the agent is imported once and forked often.
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

MOMENTS = (
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


class Power:
    """Counts moments and cuts the power."""

    def __init__(self, kill_at: int, counter: int) -> None:
        self.kill_at = kill_at
        self.counter = counter
        self.count = 0

    def moment(self) -> None:
        with LOCK:
            self.count += 1
            os.pwrite(self.counter, str(self.count).ljust(10).encode(), 0)
            if self.count == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*values: Any, **named: Any) -> Any:
            self.moment()
            return function(*values, **named)

        return wrapper


def child(order: dict[str, Any], counter: int) -> None:
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(order["environment"])
    power = Power(order["kill_at"], counter)
    for name in MOMENTS:
        setattr(os, name, power.guarded(getattr(os, name)))
    subprocess.Popen.__init__ = power.guarded(subprocess.Popen.__init__)  # type: ignore[method-assign]
    code = main.main(order["words"])
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        path = Path(order["log"] + ".moments")
        counter = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        pid = os.fork()
        if pid == 0:
            try:
                child(order, counter)
            except BaseException as error:
                sys.stderr.write(repr(error))
                os._exit(99)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        moments = int(os.pread(counter, 10, 0) or b"0")
        os.close(counter)
        print(json.dumps({"code": code, "moments": moments}), flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
