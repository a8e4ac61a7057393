"""Retention: delete old backups, so that a nightly job does not fill the place."""

import tempfile
from pathlib import Path

from operations.backups.create import BLOB_LIST, PREFIX
from operations.backups.description import FILE_NAME
from operations.backups.destinations import Place


def complete_backups(place: Place) -> list[str]:
    """Return the names of the complete backups, newest first. Raises `PlaceFailed`."""
    names = sorted((name for name in place.directories() if name.startswith(PREFIX)), reverse=True)
    return [name for name in names if place.has(f"{name}/{FILE_NAME}")]


def delete_old_backups(place: Place, keep: int) -> list[str]:
    """Delete all but the newest `keep` complete backups, and what only they needed. Return the deleted names.

    Older interrupted backups are deleted, too. Call it while no backup is being made (`only_backup`), with a place
    that belongs to this installation alone. Raises `PlaceFailed`.
    """
    kept = complete_backups(place)[:keep]
    if not kept:
        return []
    old = sorted(name for name in place.directories() if name.startswith(PREFIX) and name < kept[-1])
    for name in old:
        # backup.json is deleted first: an interruption leaves an incomplete backup, not a damaged one.
        place.delete(f"{name}/{FILE_NAME}")
        place.delete_directory(name)
    if old:
        _delete_unlisted_blobs(place, kept)
    return old


def _delete_unlisted_blobs(place: Place, kept: list[str]) -> None:
    """Delete the blobs that no kept backup lists. Interrupted backups keep theirs until they are deleted."""
    names = [name for name in place.directories() if name.startswith(PREFIX)]
    listed: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="kernex-backup-") as directory:
        target = Path(directory) / BLOB_LIST
        for name in names:
            if name in kept or place.has(f"{name}/{BLOB_LIST}"):
                place.get(f"{name}/{BLOB_LIST}", target)
                listed |= {line.split()[0] for line in target.read_text().splitlines()}
    for name in list(place.names("blobs")):
        if name.rpartition("/")[2] not in listed:
            place.delete(name)
