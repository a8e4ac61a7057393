"""The state directory, which only one agent at a time uses."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import AlreadyRunning, BrokenState

LOCK = "lock"


def prepare(path: Path) -> None:
    """Create the directory, readable only by its owner.

    A read-only directory that an agent has used before is accepted, so that the device can still send heartbeats.

    Raises:
        BrokenState: The directory cannot be created, read or written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BrokenState(f"The state directory {path} cannot be created: {error.strerror}.") from None
    if not os.access(path, os.R_OK | os.X_OK) or not (is_writable(path) or was_used(path)):
        raise BrokenState(f"The state directory {path} cannot be used by this user; run the agent as its owner.")


def is_writable(path: Path) -> bool:
    """Return whether this process may write to the directory: it has permission, and the file system allows writes."""
    return os.access(path, os.W_OK)


def was_used(path: Path) -> bool:
    """Return whether an agent has used the directory before and this process may read its lock."""
    return os.access(path / LOCK, os.R_OK)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the directory's lock, which only one process can hold. The kernel releases it when the process exits.

    Raises:
        AlreadyRunning: Another agent holds the lock.
        OSError: The lock file cannot be opened.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_CREAT if is_writable(path) else 0)
    descriptor = os.open(path / LOCK, flags, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyRunning(f"Another agent is using {path}.") from None
        yield
    finally:
        os.close(descriptor)
