"""The state directory: made once, used by one agent at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import AlreadyRunning, BrokenState

LOCK = "lock"


def prepare(path: Path) -> None:
    """Make the directory, readable by its owner alone. Raises `BrokenState` if it cannot be used."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BrokenState(f"The state directory {path} cannot be made: {error.strerror}.") from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise BrokenState(f"The state directory {path} belongs to somebody else; run the agent as its owner.")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only agent that works here. The kernel gives the lock back, whatever happens to us.

    Raises `AlreadyRunning`.
    """
    with (path / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyRunning(f"Another agent works on {path}.") from None
        yield
