"""The upload protocol: start, send parts in any order and again, complete. The scheduler verifies afterwards.

On a local disk a part is acknowledged only when its bytes are on disk, synced, and match the sha256 that was announced
for them. In a bucket parts never come by here: `bundles.uploads.presigned_parts` says where they go. A client resumes
by asking which parts are there.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone

from bundles.errors import StorageFull
from bundles.manifest import MAX_NUMBER
from bundles.models import Blob, Upload, UploadPart, UploadState
from bundles.storage.disk import CHUNK_SIZE
from bundles.storage.interface import blobs
from bundles.uploads.presigned_parts import arrived_numbers
from bundles.uploads.rules import check_number, closed
from foundation.errors import BadRequest, Conflict

PART_SIZE = 16 * 1024 * 1024


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Hashed:
    """Chunks of bytes, hashed and counted as they pass."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._hash.update(chunk)
            self.size += len(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        """Of what has passed so far."""
        return self._hash.hexdigest()


class PartBody:
    """The bytes of one part as they arrive. `size` and `sha256` are what the sender announced."""

    def __init__(self, stream: Readable, size: int, sha256: str) -> None:
        self.stream = stream
        self.size = size
        self.sha256 = sha256

    def chunks(self) -> Iterator[bytes]:
        """All bytes, at most 1 MiB at a time. Raises `BadRequest`: `body_cut` or, after the last one, `bad_digest`."""
        arrived = Hashed(self._arriving())
        yield from arrived
        if arrived.sha256 != self.sha256:
            raise BadRequest("bad_digest", "The part's bytes do not match its Content-Digest: send it again.")

    def _arriving(self) -> Iterator[bytes]:
        rest = self.size
        while rest:
            chunk = self._read(min(CHUNK_SIZE, rest))
            rest -= len(chunk)
            yield chunk

    def _read(self, size: int) -> bytes:
        try:
            chunk = self.stream.read(size)
        except OSError:
            chunk = b""
        if not chunk:
            raise BadRequest("body_cut", "The connection ended before the whole part arrived: send it again.")
        return chunk


def start(user: User, sha256: str, size: int) -> tuple[Upload | None, bool]:
    """An upload for a blob, and whether it is new; None when the blob is stored already.

    A user who asks again for the same blob gets the unfinished upload with the parts that are there.

    Raises: `BadRequest` (`bad_size`), `Conflict` (`size_differs`), `StorageFull`.
    """
    if size > MAX_NUMBER:
        raise BadRequest("bad_size", f"A blob has at most {MAX_NUMBER} bytes.")
    blob = Blob.objects.filter(sha256=sha256).first()
    if blob is not None:
        if blob.size != size:
            raise Conflict("size_differs", f"The blob with this sha256 is stored and has {blob.size} bytes.")
        return None, False
    mine = Upload.objects.unfinished().filter(created_by=user, sha256=sha256, size=size)
    if (upload := mine.first()) is not None:
        return upload, False
    storage = blobs()
    if not storage.has_room_for(size):
        raise StorageFull
    part_size = storage.direct.part_size(size) if storage.direct else PART_SIZE
    try:
        with transaction.atomic():
            return Upload.objects.create(created_by=user, sha256=sha256, size=size, part_size=part_size), True
    except IntegrityError:  # started twice at once
        return mine.get(), False


def receive(upload: Upload, number: int, body: PartBody) -> UploadPart:
    """Keep one part; the same part again is read and compared, but not written again.

    Raises: `NotFound` (`no_such_part`), `BadRequest` (`bad_part_size`, `bad_digest`, `body_cut`),
    `Conflict` (`upload_closed`, `send_to_storage`), `StorageFull`.
    """
    check_number(upload, number)
    if blobs().direct is not None:
        raise Conflict("send_to_storage", "Parts go to storage itself: ask for their addresses with POST …/parts.")
    if body.size != upload.size_of_part(number):
        raise BadRequest("bad_part_size", f"Part {number} of this upload has {upload.size_of_part(number)} bytes.")
    if upload.state != UploadState.OPEN:
        raise closed(upload)
    part = UploadPart.objects.filter(upload=upload, number=number).first()
    if part is not None and part.sha256 == body.sha256:
        for _ in body.chunks():
            pass
        return part
    offset = (number - 1) * upload.part_size
    # What is acknowledged is what lies there: a part that is written anew is unknown until it is whole again.
    if not blobs().write(upload.pk, offset, body.chunks(), lambda: _may_write(upload, number)):
        raise closed(upload)
    return _remember_part(upload, number, body)


def _may_write(upload: Upload, number: int) -> bool:
    if not Upload.objects.filter(pk=upload.pk, state=UploadState.OPEN).exists():
        return False
    UploadPart.objects.filter(upload=upload, number=number).delete()
    return True


def _remember_part(upload: Upload, number: int, body: PartBody) -> UploadPart:
    """The part's row, made only while the upload is open."""
    with transaction.atomic():
        if not Upload.objects.filter(pk=upload.pk, state=UploadState.OPEN).update(touched_at=timezone.now()):
            raise closed(upload)
        part = UploadPart(upload=upload, number=number, sha256=body.sha256, size=body.size)
        UploadPart.objects.bulk_create(
            [part], update_conflicts=True, unique_fields=["upload", "number"], update_fields=["sha256", "size"]
        )
    return part


def complete(upload: Upload) -> Upload:
    """Hand the upload to the scheduler, which hashes the whole. Harmless when repeated.

    Raises `Conflict`: `parts_missing` (with up to 20 `missing` numbers), `upload_closed`.
    """
    if upload.state == UploadState.OPEN:
        there = arrived_numbers(upload)
        missing = [number for number in range(1, upload.part_count + 1) if number not in there]
        if missing:
            raise Conflict(
                "parts_missing",
                f"{len(missing)} of {upload.part_count} parts did not arrive yet.",
                missing=missing[:20],
            )
        if upload.move_to(UploadState.VERIFYING, only_from=UploadState.OPEN):
            return upload
        upload.refresh_from_db()
    if upload.state not in {UploadState.VERIFYING, UploadState.STORED}:
        raise closed(upload)
    return upload
