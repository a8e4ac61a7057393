"""The directory in which the workers of one web server keep their figures for /metrics, so that each answers for all.

prometheus-client looks for this directory when it is first imported, so this module does not import it.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def directory() -> Path | None:
    """Where the figures are shared; None in a process that counts for itself."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


@contextmanager
def reading() -> Iterator[None]:
    """Keep the files as they are for as long."""
    place = directory()
    if place is None:
        yield
        return
    with (place / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def remove_left_over(parent: Path, prefix: str) -> None:
    """Delete the directories of web servers that were killed. Their names end in the process's id."""
    for path in parent.glob(f"{prefix}*"):
        number = path.name.removeprefix(prefix).partition("-")[0]
        if number.isdigit() and path.stat().st_uid == os.geteuid() and not Path(f"/proc/{number}").exists():
            shutil.rmtree(path, ignore_errors=True)


def make_directory(prefix: str = "kernex-metrics-") -> Path:
    """A new directory for this web server, below the usual place for temporary files."""
    remove_left_over(Path(tempfile.gettempdir()), prefix)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))
