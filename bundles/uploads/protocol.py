"""The upload protocol: start, send parts in any order and as often as needed, complete. The scheduler verifies later.

To resume, a client requests the list of parts that have arrived. How parts arrive depends on storage: see
`bundles.uploads.part_transport`.
"""

from typing import NamedTuple

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone

from bundles.errors import StorageFull
from bundles.manifest import MAX_NUMBER
from bundles.models import Blob, Upload, UploadState
from bundles.storage.interface import blobs
from bundles.uploads.part_transport import part_transport
from foundation.errors import BadRequest, Conflict

SHOWN_MISSING = 20


class StartedUpload(NamedTuple):
    """The upload for a blob, and whether this call created it. None if the blob is stored already."""

    upload: Upload | None
    is_new: bool


def start(user: User, sha256: str, size: int) -> StartedUpload:
    """Start an upload of `size` bytes. The same user gets their unfinished upload of the same blob.

    Raises: `BadRequest` (`bad_size`), `Conflict` (`size_differs`, `too_many_uploads`), `StorageFull`.
    """
    if size > MAX_NUMBER:
        raise BadRequest("bad_size", f"A blob may be at most {MAX_NUMBER} bytes.")
    if _is_stored(sha256, size):
        return StartedUpload(None, is_new=False)
    own_uploads = Upload.objects.unfinished().filter(created_by=user, sha256=sha256, size=size)
    if (upload := own_uploads.first()) is not None:
        return StartedUpload(upload, is_new=False)
    part_size = part_transport().part_size(size)
    try:
        with transaction.atomic():
            upload = Upload.objects.create(created_by=user, sha256=sha256, size=size, part_size=part_size)
    except IntegrityError:  # a concurrent request started it
        return StartedUpload(own_uploads.get(), is_new=False)
    try:
        _check_limits(user, upload)
    except BaseException:
        upload.delete()
        raise
    return StartedUpload(upload, is_new=True)


def _is_stored(sha256: str, size: int) -> bool:
    """Return whether the blob is stored, and postpone its collection. Raises `Conflict` (`size_differs`)."""
    blob = Blob.objects.filter(sha256=sha256).first()
    if blob is None:
        return False
    if blob.size != size:
        raise Conflict("size_differs", f"The blob with this sha256 is stored and has {blob.size} bytes.")
    if blob.unreferenced_at is None:
        return True
    # No row: it was collected since we read it.
    return bool(Blob.objects.filter(sha256=sha256).update(unreferenced_at=timezone.now()))


def _check_limits(user: User, upload: Upload) -> None:
    """Check the limits with the new upload's row in place.

    Concurrent requests see each other's rows, so together they never exceed a limit. All of them may be refused where
    one would have fitted.
    """
    if Upload.objects.open().filter(created_by=user).count() > settings.UPLOADS_OPEN_MAX:
        raise Conflict(
            "too_many_uploads",
            f"You have {settings.UPLOADS_OPEN_MAX} open uploads: complete some, or wait until they expire.",
        )
    check_space(upload.size, besides=upload)


def check_space(size: int, *, besides: Upload | None = None) -> None:
    """Raise `StorageFull` unless `size` more bytes fit with what open uploads have declared and not sent yet.

    `besides` is an upload whose declared bytes do not count.
    """
    uploads = Upload.objects.all() if besides is None else Upload.objects.exclude(pk=besides.pk)
    if not blobs().has_space_for(size, reserved=uploads.outstanding_size()):
        raise StorageFull


def complete(upload: Upload) -> None:
    """Hand the upload to the scheduler, which hashes all its bytes. Idempotent.

    Raises `Conflict`: `parts_missing` (with up to 20 `missing` numbers), `upload_closed`.
    """
    if upload.state == UploadState.OPEN:
        arrived = part_transport().arrived_numbers(upload)
        missing = [number for number in range(1, upload.part_count + 1) if number not in arrived]
        if missing:
            raise Conflict(
                "parts_missing",
                f"{len(missing)} of {upload.part_count} parts have not arrived yet.",
                missing=missing[:SHOWN_MISSING],
            )
        if upload.transition_to(UploadState.VERIFYING):
            return
        upload.refresh_from_db()
    if upload.state not in {UploadState.VERIFYING, UploadState.STORED}:
        raise upload.closed()
