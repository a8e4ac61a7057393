"""Where publishers put parts when bundles are kept in a bucket, and which of them arrived there.

    announced ──PUT to its address──► arrived: the bucket lists it

What arrived is asked of the bucket, never remembered: it is the only one that knows.
"""

from collections.abc import Sequence

from django.db import transaction
from django.utils import timezone

from bundles.models import Upload, UploadPart, UploadState
from bundles.storage.interface import blobs
from bundles.storage.presigned_uploads import Address, DirectUploads
from bundles.uploads.rules import check_number, closed
from foundation.errors import NotFound


def addresses(upload: Upload, announced: Sequence[UploadPart]) -> list[Address]:
    """Where to PUT these parts (`number`, `sha256`, `md5`), for 15 minutes; nothing when they go to the API.

    Raises: `NotFound` (`no_such_part`), `Conflict` (`upload_closed`), `Unavailable`.
    """
    direct = blobs().direct
    if direct is None or not announced:
        return []
    for part in announced:
        check_number(upload, part.number)
    _remember(upload, announced)
    multipart_id = upload.multipart_id or _begin(upload, direct)
    return [direct.address(upload.pk, multipart_id, part.number, part.md5) for part in announced]


def _remember(upload: Upload, announced: Sequence[UploadPart]) -> None:
    parts = {
        part.number: UploadPart(
            upload=upload, number=part.number, sha256=part.sha256, size=upload.size_of_part(part.number), md5=part.md5
        )
        for part in announced
    }
    with transaction.atomic():
        if not Upload.objects.filter(pk=upload.pk, state=UploadState.OPEN).update(touched_at=timezone.now()):
            raise closed(upload)
        UploadPart.objects.bulk_create(
            parts.values(),
            update_conflicts=True,
            unique_fields=["upload", "number"],
            update_fields=["sha256", "size", "md5"],
        )


def _begin(upload: Upload, direct: DirectUploads) -> str:
    """Start the multipart upload. Of two at once one wins, the other's is forgotten."""
    multipart_id = direct.begin(upload.pk)
    if Upload.objects.filter(pk=upload.pk, state=UploadState.OPEN, multipart_id="").update(multipart_id=multipart_id):
        upload.multipart_id = multipart_id
        return multipart_id
    direct.abort(upload.pk, multipart_id)
    upload.refresh_from_db()
    if upload.state != UploadState.OPEN or not upload.multipart_id:
        raise closed(upload)
    return upload.multipart_id


def arrived_parts(upload: Upload) -> list[UploadPart]:
    """The parts that are there as they were announced last, by number: these need not be sent again."""
    rows = list(upload.parts.all())
    direct = blobs().direct
    if direct is None:
        return rows
    arrived = _arrived(upload, direct)
    return [row for row in rows if arrived.get(row.number) == (row.size, row.md5)]


def arrived_numbers(upload: Upload) -> set[int]:
    """Which parts are there in their size. What is in them, hashing the whole decides.

    Unlike in `arrived_parts` the ETag does not count here: some storages make it of other things than the bytes.
    """
    direct = blobs().direct
    if direct is None:
        return set(upload.parts.values_list("number", flat=True))
    arrived = _arrived(upload, direct)
    return {number for number, (size, _) in arrived.items() if size == upload.size_of_part(number)}


def _arrived(upload: Upload, direct: DirectUploads) -> dict[int, tuple[int, str]]:
    if not upload.multipart_id or upload.state != UploadState.OPEN:
        return {}
    try:
        return direct.arrived(upload.pk, upload.multipart_id)
    except NotFound:  # the bucket forgot it, as its rules for abandoned uploads may say: begin anew
        Upload.objects.filter(pk=upload.pk, multipart_id=upload.multipart_id).update(multipart_id="")
        upload.multipart_id = ""
        return {}
