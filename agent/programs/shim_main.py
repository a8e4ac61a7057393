"""The shim: the process between the agent and a command. It keeps running if the agent is killed.

The agent runs this file as a script and writes one JSON object to its standard input: `command`, `environment`,
`directory`, and either `log` and `max_size` (bytes), or `output`, an inherited descriptor. The shim

1. becomes the subreaper of all processes that it starts, so a descendant remains its descendant even if it changes its
   session, group or environment;
2. starts the command in a separate session and replies on standard output with `{"pid": …}` or `{"error": …}`;
3. copies the command's output to a log of limited size, and keeps reading if the log cannot be written, so output never
   blocks a command;
4. kills the remaining descendants when the command exits, and then exits with the same exit code or signal.

It imports nothing from the agent, because there is one shim per running command and each should be small.
"""

import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

PR_SET_CHILD_SUBREAPER = 36
READ_SIZE = 64 * 1024
# Enough to read everything that a pipe can hold.
MAX_LAST_READS = 64
KILL_SECONDS = 5.0
KILL_INTERVAL_SECONDS = 0.02
REOPEN_SECONDS = 5.0


class BoundedLog:
    """A log file and the older file `<path>.1`, each of at most `max_size` bytes."""

    def __init__(self, path: str, max_size: int) -> None:
        self.path = path
        self.max_size = max_size
        self.size = 0
        self.descriptor = -1
        self.reopen_at = 0.0

    def write(self, data: bytes) -> None:
        """Append `data`, or drop it if it cannot be written."""
        try:
            if self.descriptor < 0:
                self._open()
            if self.descriptor >= 0 and self.size + len(data) > self.max_size:
                self._rotate()
            if self.descriptor >= 0:
                self.size += os.write(self.descriptor, data)
        except OSError:
            self._close()

    def _open(self) -> None:
        if time.monotonic() < self.reopen_at:
            return
        self.reopen_at = time.monotonic() + REOPEN_SECONDS
        self.descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        self.size = os.fstat(self.descriptor).st_size
        self.reopen_at = 0.0

    def _rotate(self) -> None:
        """Start a new file. If the program occupies the name of the older file, truncate the current one instead."""
        try:
            os.replace(self.path, f"{self.path}.1")  # noqa: PTH105
        except OSError:
            os.ftruncate(self.descriptor, 0)
        self._close()
        self._open()

    def _close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


def main() -> None:
    """Run one command until it exits."""
    request = json.load(sys.stdin)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # Use handlers instead of SIG_IGN, which the command would inherit.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    wakeup_reader, wakeup_writer = os.pipe()
    os.set_blocking(wakeup_reader, False)
    os.set_blocking(wakeup_writer, False)
    signal.set_wakeup_fd(wakeup_writer)
    output_reader, output = (-1, int(request["output"])) if "output" in request else os.pipe()
    try:
        process = subprocess.Popen(
            request["command"], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=request["directory"],
            env=request["environment"], start_new_session=True, close_fds=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        _reply({"error": str(error)})
        os._exit(1)
    os.close(output)
    _reply({"pid": process.pid})
    log = BoundedLog(request.get("log", ""), int(request.get("max_size", 0)))
    code = _follow(process.pid, output_reader, wakeup_reader, log)
    _kill_descendants()
    _copy_rest(output_reader, log)
    _exit_like_command(code)


def _reply(reply: dict[str, object]) -> None:
    """Send the result of the start to the agent, if it still runs, and close the connection to it."""
    with suppress(OSError):
        os.write(1, json.dumps(reply).encode("ascii") + b"\n")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)


def _follow(pid: int, output_reader: int, wakeup_reader: int, log: BoundedLog) -> int:
    """Copy the output and reap children until the command exits. Return its exit code, negative for a signal."""
    descriptors = [wakeup_reader] if output_reader < 0 else [wakeup_reader, output_reader]
    code = None
    while code is None:
        ready = select.select(descriptors, [], [])[0]
        if output_reader in ready:
            data = os.read(output_reader, READ_SIZE)
            log.write(data)
            if not data:
                descriptors.remove(output_reader)
        if wakeup_reader in ready:
            os.read(wakeup_reader, READ_SIZE)
            code = _reap(pid)
    return code


def _reap(pid: int) -> int | None:
    """Reap all children that have exited. Return the exit code of `pid` if it was among them."""
    code = None
    while True:
        try:
            reaped, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if reaped == 0:
            return code
        if reaped == pid:
            code = os.waitstatus_to_exitcode(status)


def _kill_descendants() -> None:
    """Kill the children until none are left. Their own children become ours when they exit."""
    deadline = time.monotonic() + KILL_SECONDS
    while time.monotonic() < deadline:
        _reap(0)
        children = _children()
        if not children:
            return
        for pid in children:
            # The child has not been reaped, so no other process can have this pid.
            os.kill(pid, signal.SIGKILL)
        time.sleep(KILL_INTERVAL_SECONDS)


def _children() -> list[int]:
    own = os.getpid()
    # pathlib would cost a megabyte of memory.
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and _parent(name) == own]  # noqa: PTH208


def _parent(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _copy_rest(output_reader: int, log: BoundedLog) -> None:
    if output_reader < 0:
        return
    os.set_blocking(output_reader, False)
    for _ in range(MAX_LAST_READS):
        try:
            data = os.read(output_reader, READ_SIZE)
        except BlockingIOError:
            return
        log.write(data)
        if not data:
            return


def _exit_like_command(code: int) -> None:
    """Exit like the command, because the agent reads the command's exit code or signal from the shim."""
    if code < 0:
        if -code not in {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
