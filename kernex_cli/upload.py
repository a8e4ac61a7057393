"""Uploads of blobs in parts, with constant memory. An interrupted upload is resumed.

The server remembers which parts it has. After a broken connection, a killed process or a restarted server, run the same
command again: it asks which parts are stored and sends the rest. If the server stores bundles in a bucket, the command
sends the parts directly to the bucket (`kernex_cli.presigned_uploads`).
"""

import base64
import hashlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernex_cli.client import Client
from kernex_cli.errors import Refused, WaitFailed
from kernex_cli.presigned_uploads import Part, PresignedUrl, Storage
from kernex_cli.tree import Source

# Files up to this size are sent in parallel, because their round trips take longer than the transfer of their bytes.
SMALL_SIZE = 4 * 1024 * 1024
PARALLEL_UPLOADS = 4
MAX_TRIES = 3
# The bytes were damaged or cut off in transit: sending them again can succeed.
DAMAGED = {"bad_digest", "body_cut"}
# The server lost parts or closed the upload: start again.
RESTARTED = {"parts_missing", "upload_closed"}


@dataclass(frozen=True)
class Blob:
    """The content of a file to send."""

    sha256: str
    source: Source

    def part(self, number: int, offset: int, length: int) -> Part:
        """Read a range of the file and return its digests."""
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        for chunk in self.source.read(offset, length):
            sha256.update(chunk)
            md5.update(chunk)
        return Part(number, sha256.hexdigest(), md5.hexdigest())


@dataclass(frozen=True)
class Upload:
    """The server's state of one upload. `stored_parts` maps part numbers to digests, `urls` to presigned URLs."""

    id: str
    is_open: bool
    is_direct: bool
    part_size: int
    stored_parts: Mapping[int, str]
    urls: Mapping[int, PresignedUrl]

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "Upload":
        return cls(
            id=str(document["id"]),
            is_open=document["state"] == "open",
            is_direct=bool(document.get("direct")),
            part_size=document["part_size"],
            stored_parts={part["number"]: part["sha256"] for part in document["parts"]},
            urls={url["number"]: PresignedUrl.parse(url) for url in document.get("addresses", [])},
        )


class PartBody:
    """A part as a request body: it has a length, and is read from the file each time it is sent."""

    def __init__(self, source: Source, offset: int, length: int) -> None:
        self.source = source
        self.offset = offset
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[bytes]:
        return self.source.read(self.offset, self.length)


class Uploader:
    """Sends blobs. `advance` is called with the size of each part or blob that the server has, even if sent earlier."""

    def __init__(self, client: Client, advance: Callable[[int], None]) -> None:
        self.client = client
        self.storage = Storage(client)
        self.advance = advance

    def send_all(self, blobs: Sequence[Blob]) -> int:
        """Send small blobs in parallel, then large ones one after the other. Return the number of bytes sent.

        Raises: `FileChanged`, `Unreachable`, `Refused`, `WaitFailed`.
        """
        small = [blob for blob in blobs if blob.source.size <= SMALL_SIZE]
        large = [blob for blob in blobs if blob.source.size > SMALL_SIZE]
        return sum_in_parallel(self.send, small) + sum(map(self.send, large))

    def send(self, blob: Blob) -> int:
        """Send one blob and ask the server to verify it. Return the number of bytes sent."""
        counted_parts: set[int] = set()  # parts that `advance` was called for
        size = blob.source.size
        sent = 0
        for _ in range(MAX_TRIES):
            # A small file is one part. If it goes to storage, this request already returns its URL.
            parts = [blob.part(1, 0, size).document()] if 0 < size <= SMALL_SIZE else []
            document = self.client.post("/uploads", {"sha256": blob.sha256, "size": size, "parts": parts})
            upload = Upload.parse(document)
            if not upload.is_open:
                if not counted_parts:
                    self.advance(size)
                return sent
            sent += self._send_parts(upload, blob, counted_parts)
            if self._complete(upload):
                return sent
        raise WaitFailed(
            f"The server lost parts of {blob.source.path!a} {MAX_TRIES} times: check its log and its disk."
        )

    def _complete(self, upload: Upload) -> bool:
        """Tell the server that all parts were sent. Return False if the upload must start again."""
        try:
            self.client.post(f"/uploads/{upload.id}/complete")
        except Refused as error:
            if error.code not in RESTARTED:
                raise
            return False
        return True

    def _send_parts(self, upload: Upload, blob: Blob, counted_parts: set[int]) -> int:
        """Send the parts that the server lacks or has with different bytes. Return the number of bytes sent."""
        size = blob.source.size
        sent = 0
        for number, offset in enumerate(range(0, size, upload.part_size), start=1):
            length = min(upload.part_size, size - offset)
            part = blob.part(number, offset, length)
            if upload.stored_parts.get(number) != part.sha256:
                # A URL of the first response is for the entire file, so it can be used only for a file of one part.
                url = upload.urls.get(number) if size <= upload.part_size else None
                if not self._send_part(upload, part, PartBody(blob.source, offset, length), url):
                    return sent
                sent += length
            if number not in counted_parts:
                self.advance(length)
                counted_parts.add(number)
        return sent

    def _send_part(self, upload: Upload, part: Part, body: PartBody, url: PresignedUrl | None) -> bool:
        """Send one part, to storage or to the server. Return False if the upload was closed."""
        if upload.is_direct:
            return self.storage.send(upload.id, part, body, url)
        digest = base64.b64encode(bytes.fromhex(part.sha256)).decode()
        headers = {"Content-Digest": f"sha-256=:{digest}:", "Content-Type": "application/octet-stream"}
        for attempt in range(1, MAX_TRIES + 1):
            try:
                self.client.call("PUT", f"/uploads/{upload.id}/parts/{part.number}", data=body, headers=headers)
            except Refused as error:
                if error.code == "upload_closed":
                    return False
                if error.code not in DAMAGED or attempt == MAX_TRIES:
                    raise
            else:
                return True
        return False


def sum_in_parallel(work: Callable[[Blob], int], blobs: Sequence[Blob]) -> int:
    """Call `work` for all blobs, a few at a time. Return the sum of the results; raise the first failure.

    The threads are daemons, so that an interrupt stops the command immediately.
    """
    waiting: queue.SimpleQueue[Blob] = queue.SimpleQueue()
    for blob in blobs:
        waiting.put(blob)
    results: list[int] = []
    failures: list[BaseException] = []

    def run() -> None:
        while not failures:
            try:
                blob = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                results.append(work(blob))
            except BaseException as error:
                failures.append(error)  # raised below, in the caller's thread

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(PARALLEL_UPLOADS, len(blobs)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(results)
