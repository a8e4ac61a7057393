"""Archives that browsers put into the bucket, so that no web worker handles their bytes. The scheduler reads them.

Reading a large archive takes minutes. A thread does it alongside the scheduler's other tasks, one archive at a time. If
that thread is interrupted, the archive is read again from the start.
"""

import threading
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import close_old_connections, connection
from django.utils import timezone

from bundles.archives.drafting import draft_from_archive
from bundles.errors import StorageFull
from bundles.models import ArchiveState, Bundle, SentArchive
from bundles.storage.interface import blobs, direct_uploads
from bundles.storage.s3_uploads import MAX_WHOLE_SIZE, DirectUploads
from foundation.errors import ApiError, BadRequest, Conflict, Unavailable

# How long the scheduler waits for an archive to be read before it continues with its other tasks.
WAIT_SECONDS = 5.0


class StartedArchive(NamedTuple):
    """A declared archive, and the presigned URL to PUT it to within 15 minutes."""

    archive: SentArchive
    url: str


def start(name: str, version: str, size: int, *, actor: str, user: User) -> StartedArchive:
    """Declare an archive of `size` bytes.

    Raises: `BadRequest` (`bad_size`), `Conflict` (`version_exists`, `not_direct`), `Unavailable`.
    """
    if not 0 < size <= MAX_WHOLE_SIZE:
        raise BadRequest(
            "bad_size", f"An archive must be 1 to {MAX_WHOLE_SIZE} bytes. For larger bundles, use kernex push."
        )
    if Bundle.objects.filter(name=name, version=version).exists():
        raise Conflict(
            "version_exists", f"{name}@{version} exists, and a bundle never changes: choose another version."
        )
    direct = _direct_uploads()
    archive = SentArchive.objects.create(name=name, version=version, size=size, actor=actor, created_by=user)
    return StartedArchive(archive, direct.whole_url(archive.pk, size))


def hand_over(archive: SentArchive) -> None:
    """Queue an archive that has arrived in the bucket for reading. Idempotent.

    Raises: `Conflict` (`not_arrived`, `archive_closed`), `Unavailable`.
    """
    if archive.state == ArchiveState.OPEN:
        size = _direct_uploads().whole_size(archive.pk)
        if size != archive.size:
            raise Conflict("not_arrived", f"{archive.size} bytes were declared, {size} have arrived.")
        if archive.transition_to(ArchiveState.READING):
            return
        archive.refresh_from_db()
    if archive.state not in {ArchiveState.READING, ArchiveState.DRAFTED}:
        raise Conflict("archive_closed", f"This archive is {archive.state}.")


def _direct_uploads() -> DirectUploads:
    direct = direct_uploads()
    if direct is None:
        raise Conflict("not_direct", "Bundles are kept on a local disk: send archives with the form.")
    return direct


class ArchiveReader:
    """Reads archives in a thread, one at a time."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.made_progress = False

    def run(self) -> int:
        """Start to read the next archive, unless one is being read. Return 1 if one was started and has not failed."""
        if self.thread is not None and self.thread.is_alive():
            return 0
        waiting = SentArchive.objects.in_states(ArchiveState.READING).order_by("created_at")
        pk = waiting.values_list("pk", flat=True).first()
        if pk is None:
            return 0
        self.thread = threading.Thread(target=self._read, args=[pk])
        self.thread.start()
        self.thread.join(WAIT_SECONDS)
        return int(self.thread.is_alive() or self.made_progress)

    def _read(self, pk: UUID) -> None:
        close_old_connections()
        try:
            self.made_progress = read(pk)
        finally:
            connection.close()


def read(pk: UUID) -> bool:
    """Create the draft of one archive, or record why it was refused.

    False if that is already done, or if storage is unavailable.
    """
    archive = SentArchive.objects.in_states(ArchiveState.READING).filter(pk=pk).select_related("created_by").first()
    if archive is None:
        return False
    try:
        with _direct_uploads().open_whole(pk) as file:
            bundle = draft_from_archive(
                file, archive.name, archive.version, actor=archive.actor, user=archive.created_by
            )
    except (Unavailable, StorageFull):
        return False
    except ApiError as error:
        is_decided = archive.refuse(error.message)
    else:
        is_decided = archive.transition_to(ArchiveState.DRAFTED, bundle=bundle)
    blobs().discard(pk)
    return is_decided


def expire_archives() -> int:
    """End archives that did not arrive or could not be read. Their bytes are deleted later. Return how many."""
    abandoned = SentArchive.objects.abandoned(timezone.now() - timedelta(seconds=settings.UPLOAD_EXPIRY_SECONDS))
    return abandoned.transition_to(
        ArchiveState.EXPIRED, state_reason="it did not arrive, or could not be read, in time"
    )
