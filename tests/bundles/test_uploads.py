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
from bundles.uploads import part_routes
from bundles.uploads.verification import verify_uploads
from tests.bundles.publisher import Publisher, sha256
from tests.factories import make_token, make_user


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_routes, "PART_SIZE", 10)


def test_it_starts(publisher: Publisher) -> None:
    answer = publisher.start(b"hello")
    assert answer.status_code == 201
    said = answer.json()
    upload = Upload.objects.get()
    wanted = {
        "id": str(upload.pk),
        "state": "open",
        "state_reason": "",
        "part_size": 16 * 1024**2,
        "size": 5,
        "parts": [],
        "direct": False,
    }
    assert said == wanted | {"addresses": []}
    assert publisher.get(f"uploads/{upload.pk}").json() == wanted


def test_a_stored_blob_needs_no_upload(publisher: Publisher) -> None:
    Blob.objects.create(sha256=sha256(b"hello"), size=5)
    answer = publisher.start(b"hello")
    assert answer.status_code == 200
    assert (answer.json()["id"], answer.json()["state"], answer.json()["parts"]) == (None, "stored", [])
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


def test_each_publisher_has_an_upload_of_their_own(publisher: Publisher, bob: Publisher) -> None:
    mine, his = publisher.start(b"hello").json()["id"], bob.start(b"hello").json()["id"]
    assert mine != his
    for answer in (
        bob.get(f"uploads/{mine}"),
        bob.put(mine, 1, b"hello"),
        bob.post(f"uploads/{mine}/complete"),
    ):
        assert refusal(answer) == (404, "unknown_upload")


def test_others_may_not(viewer: Publisher, stranger: Publisher) -> None:
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
def test_it_refuses_an_invalid_blob(publisher: Publisher, body: Any) -> None:
    answer = publisher.post("uploads", body)
    assert answer.status_code == 400
    assert not Upload.objects.exists()


def test_it_refuses_another_size_than_the_stored_blob_has(publisher: Publisher) -> None:
    Blob.objects.create(sha256=sha256(b"hello"), size=5)
    answer = publisher.post("uploads", {"sha256": sha256(b"hello"), "size": 6})
    assert refusal(answer) == (409, "size_differs")


def test_it_refuses_what_does_not_fit(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = publisher.post("uploads", {"sha256": "a" * 64, "size": 2**52})
    assert refusal(answer) == (507, "storage_full")
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
def test_it_is_complete_only_with_every_part(publisher: Publisher) -> None:
    content = bytes(range(35))
    upload = publisher.start(content).json()["id"]
    publisher.put(upload, 3, content[20:30])
    answer = publisher.post(f"uploads/{upload}/complete")
    assert refusal(answer) == (409, "parts_missing")
    assert answer.json()["error"]["missing"] == [1, 2, 4]


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
    Upload.objects.update(state=state, state_reason="the moon is full")
    answer = publisher.post(f"uploads/{upload}/complete")
    assert refusal(answer) == (409, "upload_closed")
    assert answer.json()["error"]["state"] == state
    assert publisher.start(b"hello").status_code == 201  # a new one


@pytest.mark.parametrize("address", ["uploads/x", "uploads/00000000-0000-0000-0000-000000000000", "uploads/%00"])
def test_it_does_not_know(publisher: Publisher, address: str) -> None:
    assert publisher.get(address).status_code == 404


def test_starting_takes_few_statements(publisher: Publisher) -> None:
    publisher.start(b"1")
    with CaptureQueriesContext(connection) as queries:
        publisher.start(b"2")
        # rate limit, token, blob, unfinished, savepoint, insert, release, open uploads, announced, received, parts
        assert len(queries) <= 11


@pytest.mark.django_db(transaction=True)
def test_concurrent_starts_make_one_upload(client: Client) -> None:
    secret = make_token(make_user(), "publisher")

    def start(_: int) -> tuple[int, str]:
        try:
            answer = Publisher(Client(), secret).start(b"hello")
            return answer.status_code, answer.json()["id"]
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        answers = sorted(pool.map(start, range(4)))
    assert [status for status, _ in answers] == [200, 200, 200, 201]
    assert len({upload for _, upload in answers}) == Upload.objects.count() == 1
    assert Upload.objects.get().state == UploadState.OPEN


def test_open_uploads_reserve_their_announced_sizes(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_user_may_have_a_limited_number_of_open_uploads(
    publisher: Publisher, bob: Publisher, settings: Settings
) -> None:
    settings.UPLOADS_OPEN_MAX = 2
    for content in (b"1", b"2"):
        assert publisher.start(content).status_code == 201
    assert refusal(publisher.start(b"3")) == (409, "too_many_uploads")
    assert publisher.start(b"2").status_code == 200  # the same one again
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
