"""Merge the metrics files of workers that have exited.

prometheus-client writes one file per worker and metric type, and never removes one. gunicorn replaces workers from time
to time, so the files would pile up. The counts of exited workers are moved to one file, under the lock that
readers of /metrics also hold.
"""

import fcntl
import os
import re
from collections.abc import Collection
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

from operations.monitoring.multiprocess_dir import directory

_FILE = re.compile(r"(counter|histogram)_([0-9]+)\.db")
_EXITED_WORKERS = 0


def add_up(alive: Collection[int]) -> None:
    """Move the counts of exited workers into one file. Do nothing while a reader holds the lock: the next call does it.

    `alive` holds the process ids of the running workers.
    """
    metrics_dir = directory()
    if metrics_dir is None:
        return
    with (metrics_dir / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        for path in sorted(metrics_dir.iterdir()):
            match = _FILE.fullmatch(path.name)
            if match and int(match[2]) not in {_EXITED_WORKERS, os.getpid(), *alive}:
                _merge(path, metrics_dir / f"{match[1]}_{_EXITED_WORKERS}.db")


def _merge(source: Path, target: Path) -> None:
    """Add the values of `source` to `target`, and delete `source`."""
    total = MmapedDict(str(target))  # type: ignore[no-untyped-call]
    for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(str(source)):  # type: ignore[no-untyped-call]
        previous, _ = total.read_value(key)  # type: ignore[no-untyped-call]
        total.write_value(key, previous + value, timestamp)  # type: ignore[no-untyped-call]
    total.close()  # type: ignore[no-untyped-call]
    source.unlink()
