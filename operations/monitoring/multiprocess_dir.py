"""The directory in which the workers of one web server share their metrics, so that any worker can answer /metrics.

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
    """Return the shared directory; None in a process that counts only its own requests."""
    path = os.environ.get(VARIABLE)
    return Path(path) if path else None


@contextmanager
def reading() -> Iterator[None]:
    """Hold the lock that keeps `dead_workers` from changing the files."""
    metrics_dir = directory()
    if metrics_dir is None:
        yield
        return
    with (metrics_dir / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def remove_leftovers(parent: Path, prefix: str) -> None:
    """Delete the directories of web servers that were killed. The process id follows `prefix` in a directory's name."""
    for path in parent.glob(f"{prefix}*"):
        pid = path.name.removeprefix(prefix).partition("-")[0]
        if pid.isdigit() and path.stat().st_uid == os.geteuid() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)


def make_directory(prefix: str = "kernex-metrics-") -> Path:
    """Create a directory for this web server in the system's temporary directory, and return its path."""
    remove_leftovers(Path(tempfile.gettempdir()), prefix)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))
