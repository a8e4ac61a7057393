"""POST /api/v1/bundles"""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from bundles.models import Blob, Bundle, BundleFile, Upload, UploadState
from foundation.events.models import Event
from tests.bundles.publisher import Publisher, manifest_of, sha256
from tests.factories import make_token, make_user

MANIFEST = manifest_of({"a": b"1", "b": b"22", "again": b"1"}, device_types=["edge"])


def refusal(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_drafting_stores_the_bundle_and_lists_missing_blobs(publisher: Publisher) -> None:
    response = publisher.draft(MANIFEST)
    assert response.status_code == 201
    draft_json = response.json()
    missing = [{"sha256": sha256(content), "size": len(content)} for content in sorted((b"1", b"22"), key=sha256)]
    bundle = Bundle.objects.get()
    assert draft_json == {
        "id": str(bundle.pk),
        "name": "vad",
        "version": "1.0.0",
        "state": "draft",
        "state_reason": "",
        "size": 4,
        "file_count": 3,
        "manifest_sha256": sha256(bundle.manifest.encode()),
        "manifest_size": len(bundle.manifest),
        "device_types": ["edge"],
        "created_at": draft_json["created_at"],
        "ready_at": None,
        "withdrawn_at": None,
        "missing": missing,
    }
    assert json.loads(bundle.manifest) == MANIFEST
    assert bundle.created_by == make_user("alice")
    assert [event.bundle_id for event in Event.objects.filter(kind="bundle.drafted")] == [bundle.pk]


def test_drafting_is_idempotent(publisher: Publisher, bob: Publisher) -> None:
    first, again = publisher.draft(MANIFEST), bob.draft(MANIFEST)
    assert (again.status_code, again.json()) == (200, first.json())
    assert Event.objects.filter(kind="bundle.drafted").count() == 1


def test_stored_blobs_are_not_listed_as_missing(publisher: Publisher) -> None:
    Blob.objects.create(sha256=sha256(b"1"), size=1)
    assert publisher.draft(MANIFEST).json()["missing"] == [{"sha256": sha256(b"22"), "size": 2}]


def test_another_manifest_of_the_same_version_is_refused(publisher: Publisher) -> None:
    publisher.draft(MANIFEST)
    assert refusal(publisher.draft(MANIFEST | {"release_counter": 1})) == (409, "version_exists")
    assert (Bundle.objects.count(), BundleFile.objects.count()) == (1, 3)


def test_a_size_that_differs_from_the_stored_blob_is_refused(publisher: Publisher) -> None:
    Blob.objects.create(sha256=sha256(b"1"), size=7)
    assert refusal(publisher.draft(MANIFEST)) == (409, "size_differs")


def test_viewers_and_strangers_cannot_draft(viewer: Publisher, stranger: Publisher) -> None:
    assert refusal(viewer.draft(MANIFEST))[0] == 403
    assert refusal(stranger.draft(MANIFEST))[0] == 401
    assert not Bundle.objects.exists()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid"),
        (b"{", 400, "not_json"),
        (b"[]", 400, "invalid"),
        (b"{}", 400, "invalid"),
        (b'{"manifest": null}', 400, "invalid"),
        (b'{"manifest": []}', 400, "bad_member"),
        (b'{"manifest": "x"}', 400, "bad_member"),
        (b'{"manifest": {"schema": 1}}', 400, "missing_member"),
        (b'{"manifest": "\\u0000"}', 400, "bad_text"),
        (b'{"manifest": "\\ud800"}', 400, "bad_text"),
        (b'{"manifest": 1e999}', 400, "number_out_of_range"),
        (b'{"manifest": ' + b"[" * 100 + b"]" * 100 + b"}", 400, "too_deep"),
        (b'{"manifest": ' + b"[" * 100_000, 400, "too_deep"),
        (b"\xff", 400, "not_utf8"),
        (b" " * (5 * 1024 * 1024 + 1), 413, "too_large"),
    ],
)
def test_invalid_manifests_are_refused(publisher: Publisher, body: bytes, status: int, code: str) -> None:
    assert refusal(publisher.post("bundles", body)) == (status, code)


def test_another_content_type_is_refused(publisher: Publisher) -> None:
    response = publisher.post("bundles", b"{}", content_type="text/plain")
    assert refusal(response) == (415, "unsupported_media_type")


def test_a_chunked_body_is_refused(publisher: Publisher) -> None:
    response = publisher.post("bundles", {"manifest": MANIFEST}, HTTP_TRANSFER_ENCODING="chunked")
    assert refusal(response) == (411, "length_required")


def ten_thousand_files(version: str) -> dict[str, Any]:
    return manifest_of({f"{n:05}": f"{version} {n}".encode() for n in range(10_000)}, version=version)


def test_10_000_files_are_fast_with_bad_query_plans(publisher: Publisher) -> None:
    """Without statistics on a new bundle, PostgreSQL has chosen plans as bad as these."""
    others = [{"sha256": file["sha256"], "size": file["size"]} for file in ten_thousand_files("1")["files"]]
    Blob.objects.bulk_create(Blob(**line) for line in others)
    Upload.objects.bulk_create(Upload(**line, part_size=1, state=UploadState.VERIFYING) for line in others)
    with connection.cursor() as cursor:
        for plan_kind in ("indexscan", "indexonlyscan", "bitmapscan", "hashjoin", "mergejoin"):
            cursor.execute(f"SET LOCAL enable_{plan_kind} = off")
        # Far more than one lookup per file needs, far less than comparing every pair of files needs.
        cursor.execute("SET LOCAL statement_timeout = '2s'")
    response = publisher.draft(ten_thousand_files("2"))
    assert response.status_code == 201
    assert len(response.json()["missing"]) == 10_000
    assert refusal(publisher.post("bundles/vad/2/publish")) == (409, "missing_blobs")


def test_10_000_files_need_few_statements(publisher: Publisher) -> None:
    publisher.draft(MANIFEST)  # fills caches
    manifest = ten_thousand_files("2")
    with CaptureQueriesContext(connection) as queries:
        assert publisher.draft(manifest).status_code == 201
    assert len(queries) <= 16
    Blob.objects.bulk_create(Blob(sha256=file["sha256"], size=file["size"]) for file in manifest["files"])
    with CaptureQueriesContext(connection) as queries:
        assert publisher.post("bundles/vad/2/publish").status_code == 202
    assert len(queries) <= 12


@pytest.mark.django_db(transaction=True)
def test_concurrent_drafts_create_one_bundle(client: Client) -> None:
    secret = make_token(make_user(), "publisher")

    def draft(_: int) -> int:
        try:
            return int(Publisher(Client(), secret).draft(MANIFEST).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(draft, range(4))) == [200, 200, 200, 201]
    assert (Bundle.objects.count(), BundleFile.objects.count()) == (1, 3)
