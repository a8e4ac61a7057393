"""Uploads whose parts are put into a bucket, from the first call to the blob at its final key."""

import os
import tracemalloc
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import requests

from bundles.identifiers import Digest
from bundles.models import Blob, Upload, UploadState
from bundles.storage import s3_objects, s3_verification
from bundles.storage.interface import blobs
from bundles.storage.s3_client import Bucket
from bundles.uploads.verification import delete_leftovers, expire_uploads, verify_uploads
from tests.bundles.publisher import sha256
from tests.bundles.storage.conftest import RemoteBucket
from tests.bundles.storage.uploader import Uploader, part
from tests.factories import make_token, make_user

CONTENT = os.urandom(50_000)
KIB, MIB = 1024, 1024 * 1024


def final(content: bytes) -> str:
    return f"blobs/{sha256(content)[:2]}/{sha256(content)}"


def state_of(upload: str) -> tuple[str, str]:
    row = Upload.objects.get(pk=upload)
    return row.state, row.state_reason


def test_an_upload_becomes_a_blob(publisher: Uploader, remote_bucket: RemoteBucket) -> None:
    upload = publisher.upload(CONTENT, 16 * KIB)
    assert remote_bucket.object_keys() == []
    assert verify_uploads() == 1
    assert state_of(upload) == ("stored", "")
    assert remote_bucket.object_keys() == [final(CONTENT)]
    assert remote_bucket.get(final(CONTENT)) == CONTENT
    assert remote_bucket.unfinished_uploads() == []
    assert Blob.objects.get(pk=sha256(CONTENT)).size == len(CONTENT)
    with blobs().open(sha256(CONTENT)) as file:
        assert file.read() == CONTENT


def test_an_empty_file_needs_no_part(publisher: Uploader, remote_bucket: RemoteBucket) -> None:
    upload = publisher.start(b"")
    assert publisher.complete(upload).status_code == 202
    verify_uploads()
    assert state_of(upload) == ("stored", "")
    assert remote_bucket.get(final(b"")) == b""


def test_one_call_starts_an_upload_and_reruns_its_url(publisher: Uploader, remote_bucket: RemoteBucket) -> None:
    response = publisher.api.start(CONTENT, parts=[part(1, CONTENT)])
    assert response.status_code == 201
    (part_url,) = response.json()["addresses"]
    assert publisher.put(part_url, CONTENT).status_code == 200
    assert publisher.complete(response.json()["id"]).status_code == 202
    assert verify_uploads() == 1
    assert remote_bucket.object_keys() == [final(CONTENT)]


def test_an_upload_resumes_with_the_parts_in_the_bucket(publisher: Uploader) -> None:
    upload = publisher.start(CONTENT, 16 * KIB)
    publisher.send(upload, 1, CONTENT[: 16 * KIB])
    publisher.part_url(upload, 2, CONTENT[16 * KIB : 32 * KIB])  # declared, never sent
    again = publisher.api.start(CONTENT)
    assert again.status_code == 200
    assert again.json()["id"] == upload
    assert [line["number"] for line in again.json()["parts"]] == [1]
    refused = publisher.complete(upload)
    assert (refused.status_code, refused.json()["error"]["missing"]) == (409, [2, 3, 4])
    for number in (2, 3, 4):
        publisher.send(upload, number, CONTENT[(number - 1) * 16 * KIB : number * 16 * KIB])
    assert publisher.complete(upload).status_code == 202
    assert verify_uploads() == 1
    assert state_of(upload) == ("stored", "")


def test_the_last_declaration_of_a_part_is_compared(publisher: Uploader) -> None:
    upload = publisher.start(CONTENT, 16 * KIB)
    publisher.send(upload, 1, b"x" * 16 * KIB)
    publisher.part_url(upload, 1, CONTENT[: 16 * KIB])
    assert publisher.api.get(f"uploads/{upload}").json()["parts"] == []
    publisher.send_all(upload, CONTENT)
    assert [line["number"] for line in publisher.api.get(f"uploads/{upload}").json()["parts"]] == [1, 2, 3, 4]


@pytest.mark.parametrize("damage", [b"y" * 16 * KIB, b"y" * 15 * KIB, b""])
def test_storage_accepts_only_the_declared_bytes(publisher: Uploader, damage: bytes) -> None:
    upload = publisher.start(CONTENT, 16 * KIB)
    part_url = publisher.part_url(upload, 1, CONTENT[: 16 * KIB])
    assert publisher.put(part_url, damage).status_code in {400, 403}
    # The headers for other bytes do not help: the URL signs its headers.
    forged = publisher.part_url(upload, 2, damage)["headers"]
    assert publisher.put(part_url | {"headers": forged}, damage).status_code == 403
    assert publisher.api.get(f"uploads/{upload}").json()["parts"] == []


def test_a_url_is_valid_for_one_part_of_one_upload(publisher: Uploader, remote_bucket: RemoteBucket) -> None:
    upload = publisher.start(CONTENT, 16 * KIB)
    part_url = publisher.part_url(upload, 1, CONTENT[: 16 * KIB])
    for tampered in (
        part_url["url"].replace("partNumber=1", "partNumber=2"),
        part_url["url"].replace(upload, upload[::-1]),
        part_url["url"].replace("X-Amz-Expires=900", "X-Amz-Expires=90000"),
        part_url["url"].replace("/uploads/", "/blobs/"),
        part_url["url"].split("?")[0],
    ):
        assert tampered != part_url["url"]
        assert publisher.put(part_url | {"url": tampered}, CONTENT[: 16 * KIB]).status_code == 403
    assert requests.get(part_url["url"], timeout=20).status_code == 403
    assert requests.delete(part_url["url"], timeout=20).status_code == 403


def test_after_completion_no_url_works(publisher: Uploader, remote_bucket: RemoteBucket) -> None:
    upload = publisher.start(CONTENT, 16 * KIB)
    publisher.send_all(upload, CONTENT)
    part_url = publisher.part_url(upload, 1, CONTENT[: 16 * KIB])
    publisher.complete(upload)
    row = Upload.objects.get(pk=upload)
    with blobs().sealed(row.pk, row.multipart_id) as sealed:
        assert publisher.put(part_url, CONTENT[: 16 * KIB]).status_code in {404, 500}  # moto responds with 500
        assert sealed.digest() == Digest(sha256(CONTENT), len(CONTENT))


def test_bytes_with_another_hash_are_deleted_with_a_reason(publisher: Uploader, remote_bucket: RemoteBucket) -> None:
    upload = publisher.start(CONTENT, 16 * KIB)
    publisher.send_all(upload, CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    assert publisher.complete(upload).status_code == 202
    assert verify_uploads() == 1
    state, reason = state_of(upload)
    assert state == "refused"
    assert sha256(CONTENT) in reason
    assert (remote_bucket.object_keys(), remote_bucket.unfinished_uploads()) == ([], [])
    assert not Blob.objects.exists()


def test_swapped_parts_are_refused(publisher: Uploader) -> None:
    first, second = CONTENT[: 16 * KIB], CONTENT[16 * KIB : 32 * KIB]
    upload = publisher.start(first + second, 16 * KIB)
    publisher.send(upload, 1, second)
    publisher.send(upload, 2, first)
    publisher.complete(upload)
    verify_uploads()
    assert state_of(upload)[0] == "refused"


def test_a_part_of_the_wrong_size_is_missing(publisher: Uploader) -> None:
    upload = publisher.start(CONTENT, 16 * KIB)
    publisher.send_all(upload, CONTENT)
    publisher.send(upload, 2, CONTENT[: 8 * KIB])
    assert publisher.complete(upload).json()["error"]["missing"] == [2]


def test_the_server_refuses_parts(publisher: Uploader) -> None:
    upload = publisher.start(CONTENT)
    refused = publisher.api.put(upload, 1, CONTENT)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "send_to_storage")


@pytest.mark.parametrize("number", [0, 5, 10**6, 10**9, "one"])
def test_part_numbers_out_of_range_are_refused(publisher: Uploader, number: Any) -> None:
    upload = publisher.start(CONTENT, 16 * KIB)
    refused = publisher.api.post(f"uploads/{upload}/parts", {"parts": [part(number, b"x")]})
    assert refused.status_code in {400, 404}
    assert not Upload.objects.exclude(multipart_id="").exists()


def test_a_closed_upload_has_no_urls(publisher: Uploader) -> None:
    upload = publisher.upload(CONTENT)
    refused = publisher.api.post(f"uploads/{upload}/parts", {"parts": [part(1, CONTENT)]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "upload_closed")


def test_verifying_twice_changes_nothing(publisher: Uploader, remote_bucket: RemoteBucket) -> None:
    """As after a scheduler that was killed after each of its operations."""
    upload = publisher.upload(CONTENT, 16 * KIB)
    row = Upload.objects.get(pk=upload)
    for _ in range(2):
        with blobs().sealed(row.pk, row.multipart_id) as sealed:
            assert sealed.digest() == Digest(sha256(CONTENT), len(CONTENT))
            sealed.promote(sha256(CONTENT))
    assert verify_uploads() == 1
    assert state_of(upload) == ("stored", "")
    assert remote_bucket.object_keys() == [final(CONTENT)]


def test_a_final_key_is_never_overwritten(publisher: Uploader, remote_bucket: RemoteBucket) -> None:
    remote_bucket.put(final(CONTENT), b"something else")
    upload = publisher.upload(CONTENT)
    verify_uploads()
    state, reason = state_of(upload)
    assert state == "refused"
    assert "does not match its name" in reason
    assert remote_bucket.get(final(CONTENT)) == b"something else"


def test_a_large_object_is_copied_in_parts(
    publisher: Uploader, remote_bucket: RemoteBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_objects, "COPY_SIZE", 12_345)
    upload = publisher.upload(CONTENT, 16 * KIB)
    verify_uploads()
    assert state_of(upload) == ("stored", "")
    assert remote_bucket.get(final(CONTENT)) == CONTENT
    # The ETag ends with the number of parts of the object.
    head = remote_bucket.client.head_object(Bucket=remote_bucket.name, Key=final(CONTENT))
    assert head["ETag"].strip('"').endswith("-5")


def test_a_large_object_is_hashed_a_few_seconds_at_a_time(
    publisher: Uploader, remote_bucket: RemoteBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_verification, "HASH_SECONDS", -1.0)
    monkeypatch.setattr(s3_verification, "READ_SIZE", 20_000)
    upload = publisher.upload(CONTENT)
    runs = 0
    while state_of(upload)[0] == UploadState.VERIFYING:
        assert verify_uploads() == 1
        runs += 1
    assert runs == 3
    assert state_of(upload) == ("stored", "")
    assert remote_bucket.get(final(CONTENT)) == CONTENT


def test_an_upload_without_bytes_is_refused(publisher: Uploader, remote_bucket: RemoteBucket) -> None:
    upload = publisher.upload(CONTENT)
    remote_bucket.client.abort_multipart_upload(
        Bucket=remote_bucket.name, Key=f"uploads/{upload}", UploadId=Upload.objects.get(pk=upload).multipart_id
    )
    verify_uploads()
    assert state_of(upload) == ("refused", "50000 bytes were declared, 0 arrived")


def test_an_upload_that_the_bucket_deleted_is_started_again(publisher: Uploader, remote_bucket: RemoteBucket) -> None:
    upload = publisher.start(CONTENT)
    publisher.send_all(upload, CONTENT)
    remote_bucket.client.abort_multipart_upload(
        Bucket=remote_bucket.name, Key=f"uploads/{upload}", UploadId=Upload.objects.get(pk=upload).multipart_id
    )
    assert publisher.api.start(CONTENT).json()["parts"] == []
    publisher.send_all(upload, CONTENT)
    assert publisher.complete(upload).status_code == 202
    verify_uploads()
    assert state_of(upload) == ("stored", "")


def test_an_abandoned_upload_is_aborted(publisher: Uploader, remote_bucket: RemoteBucket) -> None:
    upload = publisher.start(CONTENT)
    publisher.send_all(upload, CONTENT)
    assert remote_bucket.unfinished_uploads() == [f"uploads/{upload}"]
    assert (expire_uploads(), delete_leftovers()) == (0, 0)
    Upload.objects.update(touched_at="2020-01-01T00:00:00Z")
    assert (expire_uploads(), delete_leftovers()) == (1, 1)
    assert remote_bucket.unfinished_uploads() == []


def test_two_publishers_send_the_same_blob(publisher: Uploader, bucket: Bucket, remote_bucket: RemoteBucket) -> None:
    other = Uploader(type(publisher.api)(publisher.api.client, make_token(make_user("bob"), "publisher")))
    uploads = [publisher.upload(CONTENT), other.upload(CONTENT)]
    verify_uploads()
    assert [state_of(upload)[0] for upload in uploads] == ["stored", "stored"]
    assert remote_bucket.object_keys() == [final(CONTENT)]


def test_hashing_and_promoting_need_little_memory(publisher: Uploader, remote_bucket: RemoteBucket) -> None:
    publisher.upload(b"the first makes the client")
    verify_uploads()
    content = os.urandom(MIB) * 40
    publisher.upload(content, 8 * MIB)
    tracemalloc.start()
    try:
        verify_uploads()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert remote_bucket.get(final(content)) == content
    assert peak < 8 * MIB


def test_a_stream_is_written_in_parts_with_little_memory(bucket: Bucket, remote_bucket: RemoteBucket) -> None:
    """Members of an archive are written this way."""
    upload = uuid4()
    tracemalloc.start()
    try:
        blobs().write(upload, 0, (bytes([number]) * MIB for number in range(70)), lambda: True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 70 * MIB
    assert remote_bucket.get(f"uploads/{upload}") == b"".join(bytes([number]) * MIB for number in range(70))


def test_an_interrupted_stream_leaves_nothing(bucket: Bucket, remote_bucket: RemoteBucket) -> None:
    def chunks() -> Iterator[bytes]:
        yield bytes(40 * MIB)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        blobs().write(uuid4(), 0, chunks(), lambda: True)
    assert (remote_bucket.object_keys(), remote_bucket.unfinished_uploads()) == ([], [])


@pytest.mark.django_db(transaction=True)
def test_many_uploads_are_verified_in_parallel(publisher: Uploader, remote_bucket: RemoteBucket) -> None:
    contents = [f"file {number}".encode() for number in range(12)]
    for content in contents:
        publisher.upload(content)
    wrong = publisher.start(b"announced")
    publisher.send(wrong, 1, b"differing")
    publisher.complete(wrong)
    while Upload.objects.verifying().exists():
        assert verify_uploads() > 0
    assert sorted(remote_bucket.object_keys()) == sorted(final(content) for content in contents)
    assert Blob.objects.count() == 12
    assert state_of(wrong)[0] == "refused"
