"""Create a backup while the control plane runs."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
from django.conf import settings
from django.db import Error, connection
from django.db.models import Max
from django.utils import timezone

from bundles.models import Blob
from bundles.storage.interface import blobs
from devices.models import Device
from foundation.errors import NotFound
from foundation.events.models import BACKUP_MADE, Event, record_event
from foundation.progress_bar import Track
from operations.backups import pg_dump
from operations.backups.description import FILE_NAME, BackupDescription, BlobListDescription, FileDescription
from operations.backups.destinations import Destination
from operations.database.granting import dsn_of

logger = logging.getLogger(__name__)

PREFIX = "kernex-"
DUMP, BLOB_LIST = "database.dump", "blobs.txt"
CHUNK_SIZE = 1024 * 1024
# Held while a backup runs. Other programs in this database are unlikely to use these two numbers.
LOCK_KEY = (0x6B65726E, 4)


class BackupRunning(Exception):
    """Another process is backing up this database. Nothing was done."""


class NotMigrated(Exception):
    """The database has no tables to back up. The message says what to do."""


@contextmanager
def only_backup() -> Iterator[None]:
    """Hold this database's lock for backups, on a separate connection. Raises `BackupRunning`."""
    dsn = dsn_of(settings.DATABASES["default"])
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as session:
        row = session.execute("SELECT pg_try_advisory_lock(%s, %s)", LOCK_KEY).fetchone()
        if row != (True,):
            raise BackupRunning("Another backup of this database is running; nothing was done.")
        yield


def create_backup(
    destination: Destination, *, with_blobs: bool, programs: Path | None, track: Track
) -> tuple[str, BackupDescription]:
    """Create a backup. Return its name and its description.

    1. Dump the database: one consistent state.
    2. List the blobs after the dump, so that the list contains every blob in the dump.
    3. With `with_blobs`, copy the blobs that the destination lacks.
    4. Write backup.json last: an interrupted backup has none.
    5. Record an event. If the database is read-only, the backup is kept without an event.

    `track(items, title, count)` shows the progress. Raises `NotMigrated`, `DumpFailed`, `DestinationFailed`, and
    `Unavailable` if storage cannot be used.
    """
    if Blob._meta.db_table not in connection.introspection.table_names():
        raise NotMigrated("The database has no tables yet: run `python manage.py migrate`, or restore a backup.")
    name = f"{PREFIX}{timezone.now():%Y%m%dT%H%M%SZ}"
    with tempfile.TemporaryDirectory(prefix="kernex-backup-") as directory:
        work = Path(directory)
        made_at = timezone.now().isoformat()
        pg_dump.dump(settings.DATABASES["default"], work / DUMP, programs)
        destination.put(work / DUMP, f"{name}/{DUMP}")
        blob_list = copy_blobs(destination, name, work, with_blobs=with_blobs, track=track)
        description = BackupDescription(
            kernex=settings.VERSION,
            made_at=made_at,
            devices=Device.objects.count(),
            dump=FileDescription.of(work / DUMP),
            blobs=blob_list,
        )
        description.write(work / FILE_NAME)
        destination.put(work / FILE_NAME, f"{name}/{FILE_NAME}")
    try:
        record_event(BACKUP_MADE, f"The backup {name} was made.", actor="manage.py", name=name)
    except Error as error:
        logger.warning("the backup %s is complete, but could not be recorded as an event: %s", name, error)
    return name, description


def copy_blobs(
    destination: Destination, name: str, work: Path, *, with_blobs: bool, track: Track
) -> BlobListDescription:
    """Write the list of blobs to the destination and, with `with_blobs`, the blobs."""
    listed = list(Blob.objects.order_by("sha256").values_list("sha256", "size"))
    (work / BLOB_LIST).write_text("".join(f"{sha256} {size}\n" for sha256, size in listed))
    destination.put(work / BLOB_LIST, f"{name}/{BLOB_LIST}")
    to_copy = track(listed, "blobs", len(listed)) if with_blobs else []
    absent = [sha256 for sha256, _ in to_copy if not copy_out(sha256, destination, work / "blob")]
    # A blob without a row was garbage-collected since the list was written: nothing in the dump needs it.
    lost = sorted(Blob.objects.sizes(absent))
    file = FileDescription.of(work / BLOB_LIST)
    return BlobListDescription(file.sha256, file.size, count=len(listed), are_copied=with_blobs, lost=lost)


def age() -> timedelta | None:
    """Return how long ago the last backup was made; None without a backup."""
    made_at = Event.objects.filter(kind=BACKUP_MADE).aggregate(at=Max("at"))["at"]
    return None if made_at is None else timezone.now() - made_at


def copy_out(sha256: str, destination: Destination, part: Path) -> bool:
    """Copy one blob to the destination unless it is there already. Return False if storage has lost or damaged it."""
    name = blob_name(sha256)
    if destination.has(name):
        return True
    try:
        with blobs().open(sha256) as source, part.open("wb") as target:
            while chunk := source.read(CHUNK_SIZE):
                target.write(chunk)
    except NotFound:
        return False
    if FileDescription.of(part).sha256 != sha256:
        return False
    destination.put(part, name)
    return True


def blob_name(sha256: str) -> str:
    """Return the name of a blob at a destination."""
    return f"blobs/{sha256[:2]}/{sha256}"
