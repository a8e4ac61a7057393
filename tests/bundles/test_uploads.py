"""POST /api/v1/uploads, GET /api/v1/uploads/{id} and POST /api/v1/uploads/{id}/complete"""

import shutil
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from bundles.models import Blob, Upload, UploadState
from bundles.storage.disk import DiskBlobs
from bundles.uploads import part_transport
from bundles.uploads.verification import verify_uploads
from tests.bundles.publisher import Publisher, sha256
from tests.factories import make_token, make_user


def refusal(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_transport, "PART_SIZE", 10)


def test_starting_returns_an_open_upload(publisher: Publisher) -> None:
    response = publisher.start(b"hello")
    assert response.status_code == 201
    upload_json = response.json()
    upload = Upload.objects.get()
    expected = {
        "id": str(upload.pk),
        "state": "open",
        "state_reason": "",
        "part_size": 16 * 1024**2,
        "size": 5,
        "parts": [],
        "direct": False,
    }
    assert upload_json == expected | {"addresses": []}
    assert publisher.get(f"uploads/{upload.pk}").json() == expected


def test_a_stored_blob_needs_no_upload(publisher: Publisher) -> None:
    Blob.objects.create(sha256=sha256(b"hello"), size=5)
    response = publisher.start(b"hello")
    assert response.status_code == 200
    assert (response.json()["id"], response.json()["state"], response.json()["parts"]) == (None, "stored", [])
    assert not Upload.objects.exists()


@pytest.mark.usefixtures("small_parts")
def test_an_interrupted_upload_resumes(publisher: Publisher) -> None:
    content = b"0123456789abcdefghijklm"
    upload = publisher.start(content).json()["id"]
    publisher.put(upload, 2, content[10:20])
    again = publisher.start(content)
    assert (again.status_code, again.json()["id"]) == (200, upload)
    assert again.json()["parts"] == [{"number": 2, "sha256": sha256(content[10:20]), "size": 10}]
    publisher.put(upload, 1, content[:10])
    publisher.put(upload, 3, content[20:])
    publisher.post(f"uploads/{upload}/complete")
    assert publisher.start(content).json()["state"] == "verifying"  # nothing is sent a second time
    assert verify_uploads() == 1
    assert publisher.start(content).json()["state"] == "stored"


def test_each_publisher_has_a_separate_upload(publisher: Publisher, bob: Publisher) -> None:
    alices, bobs = publisher.start(b"hello").json()["id"], bob.start(b"hello").json()["id"]
    assert alices != bobs
    for response in (
        bob.get(f"uploads/{alices}"),
        bob.put(alices, 1, b"hello"),
        bob.post(f"uploads/{alices}/complete"),
    ):
        assert refusal(response) == (404, "unknown_upload")


def test_viewers_and_strangers_cannot_start_an_upload(viewer: Publisher, stranger: Publisher) -> None:
    assert viewer.start(b"hello").status_code == 403
    assert stranger.start(b"hello").status_code == 401


SIZES: list[Any] = [-1, 1.5, True, None, "x", 2**53, 2**63, "1" * 5000, []]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"sha256": "A" * 64, "size": 1},
        {"sha256": "a" * 63, "size": 1},
        {"sha256": "a" * 64 + "\n", "size": 1},
        {"sha256": 7, "size": 1},
        {"sha256": "a" * 64},
        *({"sha256": "a" * 64, "size": size} for size in SIZES),
        [],
        "x",
    ],
)
def test_invalid_requests_are_refused(publisher: Publisher, body: Any) -> None:
    response = publisher.post("uploads", body)
    assert response.status_code == 400
    assert not Upload.objects.exists()


def test_a_size_that_differs_from_the_stored_blob_is_refused(publisher: Publisher) -> None:
    Blob.objects.create(sha256=sha256(b"hello"), size=5)
    response = publisher.post("uploads", {"sha256": sha256(b"hello"), "size": 6})
    assert refusal(response) == (409, "size_differs")


def test_an_upload_that_does_not_fit_is_refused(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    response = publisher.post("uploads", {"sha256": "a" * 64, "size": 2**52})
    assert refusal(response) == (507, "storage_full")
    monkeypatch.setattr(DiskBlobs, "has_space_for", lambda self, size, reserved: False)
    Blob.objects.create(sha256=sha256(b"hello"), size=5)
    assert publisher.start(b"hello").json()["state"] == "stored"


def test_an_empty_file_has_no_parts(publisher: Publisher) -> None:
    upload = publisher.start(b"").json()["id"]
    assert refusal(publisher.put(upload, 1, b"", **{"Content-Length": "0"})) == (404, "no_such_part")
    assert publisher.post(f"uploads/{upload}/complete").status_code == 202
    assert verify_uploads() == 1
    assert Blob.objects.get().size == 0


@pytest.mark.usefixtures("small_parts")
def test_completing_needs_every_part(publisher: Publisher) -> None:
    content = bytes(range(35))
    upload = publisher.start(content).json()["id"]
    publisher.put(upload, 3, content[20:30])
    response = publisher.post(f"uploads/{upload}/complete")
    assert refusal(response) == (409, "parts_missing")
    assert response.json()["error"]["missing"] == [1, 2, 4]


def test_complete_is_idempotent(publisher: Publisher) -> None:
    upload = publisher.upload(b"hello")
    again = publisher.post(f"uploads/{upload}/complete")
    assert (again.status_code, again.json()) == (202, {"state": "verifying"})
    verify_uploads()
    again = publisher.post(f"uploads/{upload}/complete")
    assert (again.status_code, again.json()) == (200, {"state": "stored"})


@pytest.mark.parametrize("state", ["refused", "expired"])
def test_an_ended_upload_cannot_be_completed(publisher: Publisher, state: str) -> None:
    upload = publisher.upload(b"hello")
    Upload.objects.update(state=state, state_reason="another reason")
    response = publisher.post(f"uploads/{upload}/complete")
    assert refusal(response) == (409, "upload_closed")
    assert response.json()["error"]["state"] == state
    assert publisher.start(b"hello").status_code == 201  # a new one


@pytest.mark.parametrize("path", ["uploads/x", "uploads/00000000-0000-0000-0000-000000000000", "uploads/%00"])
def test_unknown_uploads_are_not_found(publisher: Publisher, path: str) -> None:
    assert publisher.get(path).status_code == 404


def test_starting_needs_few_statements(publisher: Publisher) -> None:
    publisher.start(b"1")
    with CaptureQueriesContext(connection) as queries:
        publisher.start(b"2")
        # rate limit, token, blob, unfinished, savepoint, insert, release, open uploads, declared, received, parts
        assert len(queries) <= 11


@pytest.mark.django_db(transaction=True)
def test_concurrent_starts_create_one_upload(client: Client) -> None:
    secret = make_token(make_user(), "publisher")

    def start(_: int) -> tuple[int, str]:
        try:
            response = Publisher(Client(), secret).start(b"hello")
            return response.status_code, response.json()["id"]
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        responses = sorted(pool.map(start, range(4)))
    assert [status for status, _ in responses] == [200, 200, 200, 201]
    assert len({upload for _, upload in responses}) == Upload.objects.count() == 1
    assert Upload.objects.get().state == UploadState.OPEN


def test_open_uploads_reserve_their_declared_sizes(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 1000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert publisher.post("uploads", {"sha256": "a" * 64, "size": 600}).status_code == 201
    refused = publisher.post("uploads", {"sha256": "b" * 64, "size": 401})
    assert refusal(refused) == (507, "storage_full")
    assert Upload.objects.count() == 1
    assert publisher.post("uploads", {"sha256": "b" * 64, "size": 400}).status_code == 201


def test_bytes_that_arrived_are_not_reserved_twice(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"x" * 600
    upload = publisher.start(content).json()["id"]
    assert publisher.put(upload, 1, content).status_code == 200
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=400))
    assert publisher.post("uploads", {"sha256": "b" * 64, "size": 400}).status_code == 201


def test_a_user_has_at_most_uploads_open_max_open_uploads(
    publisher: Publisher, bob: Publisher, settings: Settings
) -> None:
    settings.UPLOADS_OPEN_MAX = 2
    for content in (b"1", b"2"):
        assert publisher.start(content).status_code == 201
    assert refusal(publisher.start(b"3")) == (409, "too_many_uploads")
    assert publisher.start(b"2").status_code == 200  # the same upload again
    assert bob.start(b"3").status_code == 201
    publisher.upload(b"1")
    assert publisher.start(b"3").status_code == 201


@pytest.mark.django_db(transaction=True)
def test_concurrent_starts_never_exceed_the_limit(client: Client, settings: Settings) -> None:
    settings.UPLOADS_OPEN_MAX = 3
    secret = make_token(make_user(), "publisher")

    def start(number: int) -> int:
        try:
            return int(Publisher(Client(), secret).start(b"%d" % number).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(start, range(16))) <= {201, 409}
    assert Upload.objects.open().count() <= 3
