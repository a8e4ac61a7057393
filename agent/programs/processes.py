"""Processes in /proc: find the processes of a product, and terminate them without affecting unrelated processes.

A process belongs to a product if it descends from a shim with the product's mark, has the mark itself, or is in the
process group of a program that the agent started. A pid alone does not identify a process, because pids are reused.
The agent therefore also stores when the kernel started the process, and sends signals through a pidfd.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
MARK = "KERNEX_MARK"
# The variable with the mark of a shim. The shim itself does not belong to the product.
SHIM_MARK = "KERNEX_SHIM"
POLL_SECONDS = 0.05
KILL_SECONDS = 5.0
_DEAD = {b"Z", b"X", b"x"}


def start_time(pid: int) -> int | None:
    """Return when the kernel started a process, in ticks since boot, or None if it has exited (reaped or not)."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in _DEAD else int(fields[19])


def is_alive(pid: int, expected_start_time: int) -> bool:
    """Return whether the process with this pid and start time still runs."""
    return start_time(pid) == expected_start_time


def marked(mark: str, *, with_commands: bool = False) -> set[int]:
    """Return the processes that have `mark` in their environment, or descend from a shim that has it.

    With `with_commands`, include hooks and health commands, whose marks have a suffix after `#`.
    """
    process_variable = f"{MARK}={mark}".encode()
    shim_variable = f"{SHIM_MARK}={mark}".encode()
    pids, shims = set(), set()
    for pid in _pids():
        for variable in _environment(pid):
            if variable == process_variable or (with_commands and variable.startswith(process_variable + b"#")):
                pids.add(pid)
            if variable == shim_variable or (with_commands and variable.startswith(shim_variable + b"#")):
                shims.add(pid)
    if shims:
        pids |= descendants(shims)
    return pids - shims


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
    pids: set[int] = set()
    unvisited = list(roots)
    while unvisited:
        new_pids = [pid for pid in children.get(unvisited.pop(), []) if pid not in pids]
        pids.update(new_pids)
        unvisited += new_pids
    return pids - dead - roots


def group(leader: int) -> set[int]:
    """Return the living processes of a process group."""
    pids = set()
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None and fields[0] not in _DEAD and int(fields[2]) == leader:
            pids.add(pid)
    return pids


def terminate(find: Callable[[], set[int]], grace_seconds: float) -> bool:
    """Terminate all processes that `find` returns: SIGTERM, and SIGKILL after the grace period.

    `find` is called repeatedly, because processes may fork in the meantime. Return False if some survive.
    """
    deadline = time.monotonic() + grace_seconds
    signalled: set[int] = set()
    while (remaining := find()) and time.monotonic() < deadline:
        _signal(remaining - signalled, signal.SIGTERM, find)
        signalled |= remaining
        time.sleep(POLL_SECONDS)
    deadline = time.monotonic() + KILL_SECONDS
    while (remaining := find()) and time.monotonic() < deadline:
        _signal(remaining, signal.SIGKILL, find)
        time.sleep(POLL_SECONDS / 5)
    return not remaining


def _signal(pids: Iterable[int], number: signal.Signals, find: Callable[[], set[int]]) -> None:
    """Send a signal. Open a pidfd for each process first, then look them up again, because pids may be reused."""
    pidfds: dict[int, int] = {}
    for pid in pids:
        with suppress(OSError):
            pidfds[pid] = os.pidfd_open(pid)
    try:
        current_pids = find() if pidfds else set()
        for pid, descriptor in pidfds.items():
            if pid in current_pids:
                with suppress(OSError):
                    signal.pidfd_send_signal(descriptor, number)
    finally:
        for descriptor in pidfds.values():
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
