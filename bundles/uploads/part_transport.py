"""How the parts of an upload reach storage: through the web server to a local disk, or directly into the bucket.

Through the server, a part is acknowledged when its bytes are on disk, synced, and match the declared sha256.

A publisher who sends parts directly into the bucket declares each part and gets a presigned URL to PUT it to. The
server does not record which parts arrived: it asks the bucket each time.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from bundles.identifiers import Hashed
from bundles.models import Upload, UploadPart, UploadState
from bundles.storage.disk import CHUNK_SIZE
from bundles.storage.interface import blobs, direct_uploads
from bundles.storage.s3_uploads import ArrivedPart, DirectUploads, PartURL
from foundation.errors import BadRequest, Conflict, NotFound

PART_SIZE = 16 * 1024 * 1024


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class PartBody:
    """The bytes of one part as they arrive. `size` (in bytes) and `sha256` are what the sender declared."""

    def __init__(self, stream: Readable, size: int, sha256: str) -> None:
        self.stream = stream
        self.size = size
        self.sha256 = sha256

    def chunks(self) -> Iterator[bytes]:
        """Yield all bytes, at most 1 MiB at a time.

        Raises `BadRequest`: `body_cut`, or `bad_digest` after the last chunk.
        """
        hashed = Hashed(self._arriving())
        yield from hashed
        if hashed.sha256 != self.sha256:
            raise BadRequest("bad_digest", "The part's bytes do not match its Content-Digest: send it again.")

    def _arriving(self) -> Iterator[bytes]:
        remaining = self.size
        while remaining:
            chunk = self._read(min(CHUNK_SIZE, remaining))
            remaining -= len(chunk)
            yield chunk

    def _read(self, size: int) -> bytes:
        try:
            chunk = self.stream.read(size)
        except OSError:
            chunk = b""
        if not chunk:
            raise BadRequest("body_cut", "The connection was closed before the whole part arrived: send it again.")
        return chunk


class PartTransport(Protocol):
    """The operations that differ between the two transports."""

    @property
    def is_direct(self) -> bool:
        """Whether publishers put parts into the bucket."""

    def part_size(self, size: int) -> int:
        """Return the part size in bytes for a blob of `size` bytes."""

    def part_urls(self, upload: Upload, declared: Sequence[UploadPart]) -> list[PartURL]:
        """Return presigned URLs for these parts (`number`, `sha256`, `md5`), or nothing if parts go through the server.

        Raises: `NotFound` (`no_such_part`), `Conflict` (`upload_closed`), `Unavailable`.
        """

    def arrived_parts(self, upload: Upload) -> list[UploadPart]:
        """Return the parts that arrived as last declared, sorted by number. They need not be sent again."""

    def arrived_numbers(self, upload: Upload) -> set[int]:
        """Return the numbers of the parts that arrived with the right size. Their content is verified later."""

    def receive(self, upload: Upload, number: int, body: PartBody) -> UploadPart:
        """Store one part. If it was already stored, read and compare it, but do not write it again.

        Raises: `NotFound` (`no_such_part`), `BadRequest` (`bad_part_size`, `bad_digest`, `body_cut`),
        `Conflict` (`upload_closed`, `send_to_storage`), `StorageFull`.
        """


def part_transport() -> PartTransport:
    """Return the transport for the configured storage."""
    direct = direct_uploads()
    return ServerTransport() if direct is None else BucketTransport(direct)


class ServerTransport:
    """Parts pass through the web server to a local disk."""

    is_direct = False

    def part_size(self, size: int) -> int:
        return PART_SIZE

    def part_urls(self, upload: Upload, declared: Sequence[UploadPart]) -> list[PartURL]:
        return []

    def arrived_parts(self, upload: Upload) -> list[UploadPart]:
        return list(upload.parts.all())

    def arrived_numbers(self, upload: Upload) -> set[int]:
        return set(upload.parts.values_list("number", flat=True))

    def receive(self, upload: Upload, number: int, body: PartBody) -> UploadPart:
        upload.check_part_number(number)
        if body.size != upload.size_of_part(number):
            raise BadRequest(
                "bad_part_size", f"Part {number} of this upload must have {upload.size_of_part(number)} bytes."
            )
        if upload.state != UploadState.OPEN:
            raise upload.closed()
        part = UploadPart.objects.filter(upload=upload, number=number).first()
        if part is not None and part.sha256 == body.sha256:
            for _ in body.chunks():
                pass
            return part
        offset = (number - 1) * upload.part_size
        if not blobs().write(upload.pk, offset, body.chunks(), lambda: self._may_write(upload, number)):
            raise upload.closed()
        part = UploadPart(upload=upload, number=number, sha256=body.sha256, size=body.size)
        upload.record_parts([part], ["sha256", "size"])
        return part

    def _may_write(self, upload: Upload, number: int) -> bool:
        """Forget a part that is about to be overwritten: only a complete part is acknowledged."""
        if not Upload.objects.open().filter(pk=upload.pk).exists():
            return False
        UploadPart.objects.filter(upload=upload, number=number).delete()
        return True


class BucketTransport:
    """Publishers put parts into the bucket."""

    is_direct = True

    def __init__(self, direct: DirectUploads) -> None:
        self.direct = direct

    def part_size(self, size: int) -> int:
        return self.direct.part_size(size)

    def part_urls(self, upload: Upload, declared: Sequence[UploadPart]) -> list[PartURL]:
        if not declared:
            return []
        for part in declared:
            upload.check_part_number(part.number)
        parts = {part.number: self._row(upload, part) for part in declared}
        upload.record_parts(parts.values(), ["sha256", "size", "md5"])
        multipart_id = upload.multipart_id or self._begin(upload)
        return [self.direct.part_url(upload.pk, multipart_id, part.number, part.md5) for part in declared]

    def _row(self, upload: Upload, part: UploadPart) -> UploadPart:
        size = upload.size_of_part(part.number)
        return UploadPart(upload=upload, number=part.number, sha256=part.sha256, size=size, md5=part.md5)

    def _begin(self, upload: Upload) -> str:
        """Begin the multipart upload. If two requests race, the loser's is aborted."""
        multipart_id = self.direct.begin(upload.pk)
        if Upload.objects.open().filter(pk=upload.pk, multipart_id="").update(multipart_id=multipart_id):
            upload.multipart_id = multipart_id
            return multipart_id
        self.direct.abort(upload.pk, multipart_id)
        upload.refresh_from_db()
        if upload.state != UploadState.OPEN or not upload.multipart_id:
            raise upload.closed()
        return upload.multipart_id

    def arrived_parts(self, upload: Upload) -> list[UploadPart]:
        declared = list(upload.parts.all())
        arrived = self._arrived(upload)
        return [part for part in declared if arrived.get(part.number) == ArrivedPart(part.size, part.md5)]

    def arrived_numbers(self, upload: Upload) -> set[int]:
        # Without the ETag: some storages do not compute it from the bytes alone.
        arrived = self._arrived(upload)
        return {number for number, part in arrived.items() if part.size == upload.size_of_part(number)}

    def receive(self, upload: Upload, number: int, body: PartBody) -> UploadPart:
        upload.check_part_number(number)
        raise Conflict("send_to_storage", "Parts are sent directly to storage: request their URLs with POST …/parts.")

    def _arrived(self, upload: Upload) -> dict[int, ArrivedPart]:
        if not upload.multipart_id or upload.state != UploadState.OPEN:
            return {}
        try:
            return self.direct.arrived(upload.pk, upload.multipart_id)
        except NotFound:  # the bucket deleted it, as its rules for abandoned uploads may require: begin again
            Upload.objects.filter(pk=upload.pk, multipart_id=upload.multipart_id).update(multipart_id="")
            upload.multipart_id = ""
            return {}
