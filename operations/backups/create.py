"""Making a backup beside a running control plane."""

import hashlib
import json
import logging
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import Error
from django.db.models import Max
from django.utils import timezone

from bundles.models import Blob
from bundles.storage.interface import blobs
from devices.models import Device
from foundation.errors import NotFound
from foundation.events.models import BACKUP_MADE, Event, record_event
from foundation.progress_bar import Track
from operations.backups import pg_dump
from operations.backups.destinations import Place

log = logging.getLogger(__name__)

PREFIX = "kernex-"
DESCRIPTION = "backup.json"
CHUNK_SIZE = 1024 * 1024


def make(place: Place, *, with_blobs: bool, programs: Path | None, track: Track) -> tuple[str, dict[str, Any]]:
    """Make a backup. Returns its name and what backup.json says.

    1. Dump the database: one consistent state.
    2. List the blobs. Those are only ever added, so the list holds all that the dump names.
    3. Copy blobs that the place does not hold yet, if wanted.
    4. Write backup.json last: a backup that was cut off has none.
    5. Note it as an event. A database that can only be read is kept all the same.

    `track(things, title, count)` shows the progress of going through things. Raises `DumpFailed`, `PlaceFailed`, and
    `Unavailable` while storage is away.
    """
    name = f"{PREFIX}{timezone.now():%Y%m%dT%H%M%SZ}"
    about: dict[str, Any] = {
        "kernex": settings.VERSION,
        "made_at": timezone.now().isoformat(),
        "devices": Device.objects.count(),
    }
    with tempfile.TemporaryDirectory(prefix="kernex-backup-") as directory:
        work = Path(directory)
        pg_dump.dump(settings.DATABASES["default"], work / "database.dump", programs)
        place.put(work / "database.dump", f"{name}/database.dump")
        about["dump"] = described(work / "database.dump")
        known = list(Blob.objects.order_by("sha256").values_list("sha256", "size"))
        (work / "blobs.txt").write_text("".join(f"{sha256} {size}\n" for sha256, size in known))
        place.put(work / "blobs.txt", f"{name}/blobs.txt")
        wanted = track(known, "blobs", len(known)) if with_blobs else []
        lost = [sha256 for sha256, _ in wanted if not copy_out(sha256, place, work / "blob")]
        about["blobs"] = {
            **described(work / "blobs.txt"), "count": len(known), "are_copied": with_blobs, "lost": lost
        }  # fmt: skip
        (work / DESCRIPTION).write_text(json.dumps(about, indent=2))
        place.put(work / DESCRIPTION, f"{name}/{DESCRIPTION}")
    try:
        record_event(BACKUP_MADE, f"The backup {name} was made.", actor="manage.py", name=name)
    except Error as error:
        log.warning("The backup %s stands, and could not be noted as an event: %s", name, error)
    return name, about


def age() -> timedelta | None:
    """How long ago the last backup was made here; None if that never happened."""
    made_at = Event.objects.filter(kind=BACKUP_MADE).aggregate(at=Max("at"))["at"]
    return None if made_at is None else timezone.now() - made_at


def copy_out(sha256: str, place: Place, part: Path) -> bool:
    """Copy one blob to the place, unless it is there: content never changes. False if storage has lost it."""
    name = blob_name(sha256)
    if place.has(name):
        return True
    try:
        with blobs().open(sha256) as source, part.open("wb") as target:
            while chunk := source.read(CHUNK_SIZE):
                target.write(chunk)
    except NotFound:
        return False
    if described(part)["sha256"] != sha256:
        return False
    place.put(part, name)
    return True


def blob_name(sha256: str) -> str:
    """Under which name a place keeps a blob."""
    return f"blobs/{sha256[:2]}/{sha256}"


def described(path: Path) -> dict[str, Any]:
    """The sha256 and the size of a file."""
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "size": path.stat().st_size}
