"""Writing so that a power cut at any line leaves the old content or the new, never half of one."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.errors import BadState


def sync_directory(directory: Path) -> None:
    """Make names in `directory` (new, renamed, removed) durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_directory(directory: Path, mode: int = 0o700) -> None:
    """`mkdir -p`, durable: each new name is synced in its parent."""
    missing = [directory, *directory.parents]
    for path in reversed([path for path in missing if not path.exists()]):
        path.mkdir(mode=mode, exist_ok=True)
        sync_directory(path.parent)


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace the content of `path` in one step: a temporary file, synced, renamed, and the name synced."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_json(path: Path, value: Any) -> None:
    write(path, json.dumps(value, indent=1, sort_keys=True).encode())


def read_json(path: Path) -> Any:
    """The value in `path`, or None if there is no such file. Raises `BadState` if it is no JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise BadState(f"{path} is damaged ({error}): move it away and start the agent again.") from error


def remove(path: Path) -> None:
    """Unlink `path` durably; harmless if it is gone."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def switch(link: Path, target: str) -> None:
    """Point the symbolic link `link` at `target` with one rename: a reader sees the old one or the new one."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    sync_directory(link.parent)


@contextmanager
def synced_for_append(path: Path) -> Iterator[Any]:
    """Open `path` for appending bytes; what was written is on disk when the block ends, also by an error."""
    with path.open("ab") as file:
        try:
            yield file
        finally:
            file.flush()
            os.fsync(file.fileno())
