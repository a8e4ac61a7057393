"""Files that exist completely or not at all, even after a power cut."""

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

DISK_FULL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable; without this, a power cut may undo a rename."""
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


def create_directory(path: Path, mode: int = 0o755) -> None:
    """Create a directory and its parents durably. Idempotent."""
    if path.is_dir():
        return
    create_directory(path.parent, mode)
    path.mkdir(mode=mode, exist_ok=True)
    sync_directory(path.parent)


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file: write a temporary file, fsync, rename, fsync the directory. On a full disk the old file stays."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def read_limited(path: Path, limit: int) -> bytes:
    """Return the bytes of a file that another program may have written, without blocking or following a link.

    Raises `OSError`, for example if it is not a regular file or is larger than `limit` bytes.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, "larger than allowed", str(path))
    return data


def open_regular(path: Path) -> BinaryIO:
    """Open for reading a file that another program may have written. Raises `OSError` if it is not a regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_json(path: Path, limit: int) -> Any:
    """Return the JSON value in a file that another program may have written.

    Raises `OSError`, or `ValueError` if it is not JSON or is nested too deeply.
    """
    try:
        return json.loads(read_limited(path, limit))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def remove(path: Path) -> None:
    """Remove a file, a link or a directory tree. Idempotent."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=_remove_by_force)
    else:
        path.unlink(missing_ok=True)


def _remove_by_force(function: Callable[..., Any], path: str, _: object) -> None:
    """Retry after restoring the permissions that a program may have removed from its directories."""
    if not Path(path).is_symlink():
        Path(path).parent.chmod(0o700)
        if Path(path).is_dir():
            Path(path).chmod(0o700)
            shutil.rmtree(path)
            return
    if os.path.lexists(path):
        function(path)


def is_disk_full(error: OSError) -> bool:
    """Return whether a write failed because no space is left."""
    return error.errno in DISK_FULL_ERRORS
