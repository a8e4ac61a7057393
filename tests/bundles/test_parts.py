"""PUT /api/v1/uploads/{id}/parts/{number}"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from bundles.errors import UploadBusy
from bundles.models import Upload, UploadPart
from bundles.storage.interface import blobs
from bundles.uploads import part_transport
from bundles.uploads.part_transport import PartBody, ServerTransport
from foundation.errors import BadRequest, Conflict
from tests.bundles.publisher import Publisher, content_digest, sha256

CONTENT = b"0123456789abcdefghijklm"


def refusal(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.fixture
def upload(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> str:
    """An open upload of `CONTENT` in parts of 10, 10 and 3 bytes."""
    monkeypatch.setattr(part_transport, "PART_SIZE", 10)
    return str(publisher.start(CONTENT).json()["id"])


def on_disk(storage: Path, upload: str) -> bytes:
    return (storage / "uploads" / upload).read_bytes()


def test_a_part_is_stored_at_its_offset(publisher: Publisher, upload: str, storage: Path) -> None:
    response = publisher.put(upload, 2, CONTENT[10:20])
    assert response.status_code == 200
    assert response.json() == {"number": 2, "sha256": sha256(CONTENT[10:20]), "size": 10}
    publisher.put(upload, 3, CONTENT[20:])
    publisher.put(upload, 1, CONTENT[:10])
    assert on_disk(storage, upload) == CONTENT


def test_sending_a_part_is_idempotent(publisher: Publisher, upload: str, storage: Path) -> None:
    first, again = (publisher.put(upload, 1, CONTENT[:10]) for _ in range(2))
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    broken = publisher.put(upload, 1, b"xxxxxxxxxx", **{"Content-Digest": content_digest(CONTENT[:10])})
    assert refusal(broken) == (400, "bad_digest")
    assert on_disk(storage, upload) == CONTENT[:10]
    assert UploadPart.objects.get().sha256 == sha256(CONTENT[:10])


def test_another_part_with_the_same_number_replaces_it(publisher: Publisher, upload: str, storage: Path) -> None:
    publisher.put(upload, 1, b"xxxxxxxxxx")
    assert publisher.put(upload, 1, CONTENT[:10]).status_code == 200
    assert on_disk(storage, upload) == CONTENT[:10]
    assert UploadPart.objects.get().sha256 == sha256(CONTENT[:10])


def test_a_damaged_part_is_not_listed(publisher: Publisher, upload: str) -> None:
    publisher.put(upload, 1, CONTENT[:10])
    response = publisher.put(upload, 1, b"yyyyyyyyyy", **{"Content-Digest": content_digest(b"zzzzzzzzzz")})
    assert refusal(response) == (400, "bad_digest")
    assert publisher.get(f"uploads/{upload}").json()["parts"] == []


@pytest.mark.parametrize(
    "digest",
    ["", "sha-256=", "sha-256=:AAAA:", "sha-512=:AAAA:", "sha-256=:" + "A" * 44 + ":", "md5=:x:", "sha-256=::"],
)
def test_a_part_needs_a_digest(publisher: Publisher, upload: str, digest: str) -> None:
    assert refusal(publisher.put(upload, 1, CONTENT[:10], **{"Content-Digest": digest})) == (400, "bad_digest")


@pytest.mark.parametrize(("number", "content"), [(1, b"short"), (1, b"x" * 11), (3, b"x" * 10), (3, b"x"), (1, b"")])
def test_a_part_of_the_wrong_size_is_refused(publisher: Publisher, upload: str, number: int, content: bytes) -> None:
    response = publisher.put(upload, number, content, **{"Content-Length": str(len(content))})
    assert refusal(response) == (400, "bad_part_size")


@pytest.mark.parametrize("number", [0, 4, 2**31, 10**30])
def test_a_part_number_out_of_range_is_refused(publisher: Publisher, upload: str, number: int) -> None:
    assert refusal(publisher.put(upload, number, b"x" * 10)) == (404, "no_such_part")


def test_a_huge_body_is_refused_before_it_is_read(publisher: Publisher, upload: str) -> None:
    response = publisher.put(upload, 1, b"x" * 10, **{"Content-Length": str(17 * 1024**2)})
    assert refusal(response) == (413, "too_large")


def test_a_body_without_a_length_is_refused(publisher: Publisher, upload: str) -> None:
    chunked = publisher.put(upload, 1, CONTENT[:10], **{"Transfer-Encoding": "chunked"})
    assert refusal(chunked) == (411, "length_required")
    missing = publisher.put(upload, 1, CONTENT[:10], **{"Content-Length": ""})
    assert refusal(missing) == (411, "length_required")


def test_another_content_type_is_refused(publisher: Publisher, upload: str) -> None:
    response = publisher.client.put(
        f"/api/v1/uploads/{upload}/parts/1",
        CONTENT[:10],
        content_type="text/plain",
        headers=publisher.headers | {"Content-Digest": content_digest(CONTENT[:10])},
    )
    assert refusal(response) == (415, "unsupported_media_type")


@pytest.mark.parametrize("state", ["verifying", "stored", "refused", "expired"])
def test_parts_for_a_closed_upload_are_refused(publisher: Publisher, upload: str, state: str, storage: Path) -> None:
    publisher.put(upload, 1, CONTENT[:10])
    Upload.objects.update(state=state)
    for number, content in ((1, b"x" * 10), (2, CONTENT[10:20])):
        assert refusal(publisher.put(upload, number, content)) == (409, "upload_closed")
    assert on_disk(storage, upload) == CONTENT[:10]
    assert UploadPart.objects.count() == 1


def test_a_full_disk_loses_no_acknowledged_part(
    publisher: Publisher, upload: str, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.put(upload, 1, CONTENT[:10])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for call in ("pwrite", "fsync"):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, full)
            assert refusal(publisher.put(upload, 2, CONTENT[10:20])) == (507, "storage_full")
    assert [part["number"] for part in publisher.get(f"uploads/{upload}").json()["parts"]] == [1]
    assert publisher.put(upload, 2, CONTENT[10:20]).status_code == 200


def test_unavailable_storage_is_a_503_with_retry_after(publisher: Publisher, upload: str, storage: Path) -> None:
    storage.mkdir(exist_ok=True)
    (storage / "uploads").write_text("a file where a directory should be")
    response = publisher.put(upload, 1, CONTENT[:10])
    assert refusal(response) == (503, "storage_unavailable")
    assert int(response["Retry-After"]) > 0


class Stream:
    """A body that calls `between` after each chunk."""

    def __init__(self, content: bytes, between: Callable[[], None]) -> None:
        self.rest = content
        self.between = between

    def read(self, size: int, /) -> bytes:
        chunk, self.rest = self.rest[: min(size, 4)], self.rest[min(size, 4) :]
        self.between()
        return chunk


@pytest.mark.django_db
def test_an_upload_is_not_verified_while_a_part_arrives(upload: str) -> None:
    row = Upload.objects.get()
    attempts: list[str] = []

    def try_to_seal() -> None:
        try:
            with blobs().sealed(row.pk):
                attempts.append("sealed")
        except UploadBusy:
            attempts.append("busy")

    ServerTransport().receive(row, 1, PartBody(Stream(CONTENT[:10], try_to_seal), 10, sha256(CONTENT[:10])))
    assert set(attempts) == {"busy"}
    try_to_seal()
    assert attempts[-1] == "sealed"


@pytest.mark.django_db
def test_a_part_that_outlives_its_upload_is_not_acknowledged(upload: str) -> None:
    row = Upload.objects.get()

    def expire() -> None:
        Upload.objects.update(state="expired")

    stream = Stream(CONTENT[:10], expire)
    with pytest.raises(Conflict) as conflict:
        ServerTransport().receive(row, 1, PartBody(stream, 10, sha256(CONTENT[:10])))
    assert conflict.value.code == "upload_closed"
    assert not UploadPart.objects.exists()


@pytest.mark.django_db
def test_a_truncated_body_is_not_acknowledged(upload: str) -> None:
    with pytest.raises(BadRequest) as refused:
        ServerTransport().receive(
            Upload.objects.get(), 1, PartBody(Stream(b"01234", lambda: None), 10, sha256(CONTENT[:10]))
        )
    assert refused.value.code == "body_cut"
    assert not UploadPart.objects.exists()


def test_a_part_needs_few_statements(publisher: Publisher, upload: str) -> None:
    publisher.put(upload, 1, CONTENT[:10])
    with CaptureQueriesContext(connection) as queries:
        publisher.put(upload, 2, CONTENT[10:20])
    assert len(queries) <= 10
