"""Retention: delete old backups, so that nightly backups do not fill the destination."""

import tempfile
from pathlib import Path

from operations.backups.create import BLOB_LIST, PREFIX
from operations.backups.description import FILE_NAME
from operations.backups.destinations import Destination


def complete_backups(destination: Destination) -> list[str]:
    """Return the names of the complete backups, newest first. Raises `DestinationFailed`."""
    names = sorted((name for name in destination.directories() if name.startswith(PREFIX)), reverse=True)
    return [name for name in names if destination.has(f"{name}/{FILE_NAME}")]


def delete_old_backups(destination: Destination, keep: int) -> list[str]:
    """Delete all but the newest `keep` complete backups, and the blobs that only they need. Return the deleted names.

    Older interrupted backups are deleted, too. Call it under `only_backup`. The destination must
    belong to this installation alone. Raises `DestinationFailed`.
    """
    kept = complete_backups(destination)[:keep]
    if not kept:
        return []
    old = sorted(name for name in destination.directories() if name.startswith(PREFIX) and name < kept[-1])
    for name in old:
        # backup.json is deleted first: an interruption leaves an incomplete backup, not a damaged one.
        destination.delete(f"{name}/{FILE_NAME}")
        destination.delete_directory(name)
    if old:
        _delete_unlisted_blobs(destination, kept)
    return old


def _delete_unlisted_blobs(destination: Destination, kept: list[str]) -> None:
    """Delete the blobs that no kept backup lists. Interrupted backups keep theirs until they are deleted."""
    names = [name for name in destination.directories() if name.startswith(PREFIX)]
    listed: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="kernex-backup-") as directory:
        target = Path(directory) / BLOB_LIST
        for name in names:
            if name in kept or destination.has(f"{name}/{BLOB_LIST}"):
                destination.get(f"{name}/{BLOB_LIST}", target)
                listed |= {line.split()[0] for line in target.read_text().splitlines()}
    for name in list(destination.names("blobs")):
        if name.rpartition("/")[2] not in listed:
            destination.delete(name)
