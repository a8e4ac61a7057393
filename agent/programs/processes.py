"""Processes in /proc: to find the processes of a product, and to end them without affecting unrelated processes.

A process belongs to a product if it descends from a shim that has the product's mark, if it has the mark itself, or if
it is in the group of a program that the agent started. A pid alone does not identify a process, because pids are
reused. It is combined with the time at which the kernel started the process, and signals are sent through a pidfd.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
MARK = "KERNEX_MARK"
# The variable with the mark of a shim, which itself is not part of the product.
SHIM_MARK = "KERNEX_SHIM"
STEP_SECONDS = 0.05
KILL_SECONDS = 5.0
_DEAD = {b"Z", b"X", b"x"}


def start_time(pid: int) -> int | None:
    """Return when the kernel started a process, in ticks since boot; None if it has exited, even if not reaped."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in _DEAD else int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """Return whether the process that was started at `started` still runs."""
    return start_time(pid) == started


def marked(mark: str, *, with_commands: bool = False) -> set[int]:
    """Return the processes that have `mark` in their environment, or descend from a shim that has it.

    With `with_commands`, include hooks and health commands, whose marks have a suffix after `#`.
    """
    wanted = f"{MARK}={mark}".encode()
    wanted_shim = f"{SHIM_MARK}={mark}".encode()
    found, shims = set(), set()
    for pid in _pids():
        for variable in _environment(pid):
            if variable == wanted or (with_commands and variable.startswith(wanted + b"#")):
                found.add(pid)
            if variable == wanted_shim or (with_commands and variable.startswith(wanted_shim + b"#")):
                shims.add(pid)
    if shims:
        found |= descendants(shims)
    return found - shims


def descendants(roots: set[int]) -> set[int]:
    """Return the living descendants of `roots`, without the roots themselves."""
    children: dict[int, list[int]] = {}
    dead = set()
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(pid)
            if fields[0] in _DEAD:
                dead.add(pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        new = [pid for pid in children.get(waiting.pop(), []) if pid not in found]
        found.update(new)
        waiting += new
    return found - dead - roots


def group(leader: int) -> set[int]:
    """Return the living processes of a process group."""
    found = set()
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None and fields[0] not in _DEAD and int(fields[2]) == leader:
            found.add(pid)
    return found


def end(find: Callable[[], set[int]], grace_seconds: float) -> bool:
    """End all processes that `find` returns: SIGTERM, and SIGKILL after the grace period.

    `find` is called repeatedly, because processes fork while they are being ended. Return False if some survive.
    """
    deadline = time.monotonic() + grace_seconds
    signalled: set[int] = set()
    while (left := find()) and time.monotonic() < deadline:
        _signal(left - signalled, signal.SIGTERM, find)
        signalled |= left
        time.sleep(STEP_SECONDS)
    deadline = time.monotonic() + KILL_SECONDS
    while (left := find()) and time.monotonic() < deadline:
        _signal(left, signal.SIGKILL, find)
        time.sleep(STEP_SECONDS / 5)
    return not left


def _signal(pids: Iterable[int], number: signal.Signals, find: Callable[[], set[int]]) -> None:
    """Send a signal. Open a pidfd for each process first, then look them up again, because pids may be reused."""
    opened: dict[int, int] = {}
    for pid in pids:
        with suppress(OSError):
            opened[pid] = os.pidfd_open(pid)
    try:
        still = find() if opened else set()
        for pid, descriptor in opened.items():
            if pid in still:
                with suppress(OSError):
                    signal.pidfd_send_signal(descriptor, number)
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def _pids() -> list[int]:
    own = os.getpid()
    return [int(path.name) for path in PROC.iterdir() if path.name.isdecimal() and int(path.name) != own]


def _stat(pid: int) -> list[bytes] | None:
    """Return the fields of /proc/<pid>/stat after the name, which may contain spaces and parentheses."""
    try:
        return (PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None


def _environment(pid: int) -> list[bytes]:
    try:
        return (PROC / str(pid) / "environ").read_bytes().split(b"\x00")
    except OSError:
        return []
