"""What workers counted that are gone.

prometheus-client writes one file a worker and kind, and never removes any. Workers are replaced every so often: what a
dead one counted is added to one file, under a lock that a reader of /metrics holds too.
"""

import fcntl
import os
import re
from collections.abc import Collection
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

from operations.monitoring.multiprocess_dir import directory

_FILE = re.compile(r"(counter|histogram)_([0-9]+)\.db")
_NOBODY = 0


def add_up(alive: Collection[int]) -> None:
    """Move the figures of workers that are gone into one file. Does nothing while somebody reads: next time will do."""
    place = directory()
    if place is None:
        return
    with (place / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        for path in sorted(place.iterdir()):
            match = _FILE.fullmatch(path.name)
            if match and int(match[2]) not in {_NOBODY, os.getpid(), *alive}:
                _add(path, place / f"{match[1]}_{_NOBODY}.db")


def _add(source: Path, target: Path) -> None:
    total = MmapedDict(str(target))  # type: ignore[no-untyped-call]
    for key, value, stamp, _ in MmapedDict.read_all_values_from_file(str(source)):  # type: ignore[no-untyped-call]
        kept, _ = total.read_value(key)  # type: ignore[no-untyped-call]
        total.write_value(key, kept + value, stamp)  # type: ignore[no-untyped-call]
    total.close()  # type: ignore[no-untyped-call]
    source.unlink()
