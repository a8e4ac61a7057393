"""Files that are there as a whole or not at all, also after a power cut."""

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: without this a rename may be forgotten."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's bytes and mode durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path, mode: int = 0o755) -> None:
    """Make a directory and what is above it, durably. Harmless if it is there."""
    if path.is_dir():
        return
    make_directory(path.parent, mode)
    path.mkdir(mode=mode, exist_ok=True)
    sync_directory(path.parent)


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file: write beside it, fsync, rename, fsync the directory. A full disk leaves the old one."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def read_limited(path: Path, limit: int) -> bytes:
    """The bytes of a regular file that another program may have written: never blocks, follows no link.

    Raises `OSError`, also for what is no regular file or larger than `limit`.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, "larger than allowed", str(path))
    return data


def open_regular(path: Path) -> BinaryIO:
    """A file that another program may have written, to be read. Raises `OSError` for what is no regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_json(path: Path, limit: int) -> Any:
    """What such a file says in JSON. Raises `OSError`, or `ValueError` for what is none or is nested too deep."""
    try:
        return json.loads(read_limited(path, limit))
    except RecursionError:
        raise ValueError("nested too deep") from None


def remove(path: Path) -> None:
    """Remove a file, a link or a whole tree. Harmless if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=_force)
    else:
        path.unlink(missing_ok=True)


def _force(function: Callable[..., Any], path: str, _: object) -> None:
    """A program may have taken the rights from a directory of its own."""
    if not Path(path).is_symlink():
        Path(path).parent.chmod(0o700)
        if Path(path).is_dir():
            Path(path).chmod(0o700)
            shutil.rmtree(path)
            return
    if os.path.lexists(path):
        function(path)


def is_disk_full(error: OSError) -> bool:
    """Whether a write failed because there is no space left."""
    return error.errno in FULL
