"""The collector deletes blobs that nothing refers to, and never a blob in use, whatever runs at the same time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from bundles import garbage_collection
from bundles.garbage_collection import BlobMarker, collect_blobs, delete_old_rows
from bundles.manifest import read
from bundles.missing_blobs import missing_blobs
from bundles.models import Blob, BlobDeletion, Bundle, SentArchive, Upload
from bundles.publishing import draft, publish
from bundles.storage.interface import blobs
from bundles.uploads.verification import verify_bundles, verify_uploads
from foundation.events.models import Event
from tests.bundles.publisher import Publisher, manifest_of, sha256
from tests.factories import make_bundle, make_token, make_user, store_blob

CONTENT = b"a blob" * 1000


def age_everything(days: int = 30) -> None:
    """Backdate marks and deletions by `days`."""
    past = timezone.now() - timedelta(days=days)
    Blob.objects.filter(unreferenced_at__isnull=False).update(unreferenced_at=past)
    BlobDeletion.objects.filter(deleted_at__isnull=False).update(deleted_at=past)


def store_unused(content: bytes = CONTENT) -> str:
    """Store a blob that was marked long ago. Return its sha256."""
    digest = store_blob(content)
    BlobMarker().mark()
    age_everything()
    return digest


@pytest.mark.django_db
def test_an_unused_blob_is_marked_and_then_deleted() -> None:
    digest = store_blob(CONTENT)
    assert (BlobMarker().mark(), collect_blobs()) == (1, 0)
    assert blobs().exists(digest)
    age_everything()
    assert collect_blobs() > 0
    assert not blobs().exists(digest)
    assert not Blob.objects.exists()
    event = Event.objects.get(kind="blobs.collected")
    assert event.data == {"count": 1, "bytes": len(CONTENT)}
    age_everything()
    assert (collect_blobs(), BlobDeletion.objects.count()) == (1, 0)


@pytest.mark.django_db
@pytest.mark.parametrize("state", ["draft", "verifying", "ready", "withdrawn"])
def test_a_bundle_in_any_state_keeps_its_blobs(state: str) -> None:
    make_bundle(contents={"model": CONTENT}, state=state)
    assert BlobMarker().mark() == 0
    Blob.objects.update(unreferenced_at=timezone.now())  # marked before the bundle was drafted
    age_everything()
    collect_blobs()
    assert blobs().exists(sha256(CONTENT))
    assert Blob.objects.get().unreferenced_at is None


@pytest.mark.django_db
def test_a_discarded_draft_does_not_keep_its_blobs() -> None:
    bundle = make_bundle(contents={"model": CONTENT}, state="draft")
    bundle.discard(actor="operator:alice")
    assert BlobMarker().mark() == 1


@pytest.mark.django_db
def test_a_blob_in_use_again_loses_its_mark() -> None:
    store_unused()
    make_bundle(contents={"model": CONTENT})
    Blob.objects.update(unreferenced_at=timezone.now())
    assert BlobMarker().mark() == 1
    assert Blob.objects.get().unreferenced_at is None


def test_an_unfinished_upload_keeps_the_blob(publisher: Publisher) -> None:
    upload = publisher.upload(CONTENT)
    digest = store_blob(CONTENT)
    assert BlobMarker().mark() == 0
    Blob.objects.update(unreferenced_at=timezone.now())
    age_everything()
    collect_blobs()
    assert blobs().exists(digest)
    assert (verify_uploads(), Upload.objects.get(pk=upload).state) == (1, "stored")


def test_starting_an_upload_postpones_the_collection_of_its_blob(publisher: Publisher) -> None:
    digest = store_unused()
    assert publisher.start(CONTENT).json()["state"] == "stored"
    assert collect_blobs() == 0
    assert blobs().exists(digest)


def test_new_bytes_wait_until_the_old_ones_are_gone(publisher: Publisher) -> None:
    digest = store_unused()
    collect_blobs()
    publisher.draft(manifest_of({"model": CONTENT}))
    assert missing_blobs(Bundle.objects.get())
    publisher.upload(CONTENT)
    assert verify_uploads() == 0
    age_everything()
    collect_blobs()
    assert verify_uploads() == 1
    assert blobs().exists(digest)
    assert not missing_blobs(Bundle.objects.get())


def test_a_stored_blob_that_is_collected_meanwhile_is_not_recorded_again(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is deleted after the scheduler read it and before it decides on an upload of the same bytes."""
    digest = store_unused()
    Upload.objects.create(sha256=digest, size=len(CONTENT), part_size=10, state="verifying")
    selects: list[str] = []

    def condemn_after_the_select(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        response = execute(sql, *rest)
        if not selects and sql.startswith('SELECT "bundles_blob"'):
            selects.append(sql)
            Blob.objects.all().delete()
            BlobDeletion.objects.create(sha256=digest, size=len(CONTENT))
        return response

    with connection.execute_wrapper(condemn_after_the_select):
        assert verify_uploads() == 0
    assert selects
    assert not Blob.objects.exists()
    assert Upload.objects.get().state == "verifying"


@pytest.mark.django_db
def test_the_next_run_continues_after_a_killed_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = store_unused()

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(blobs()), "delete", kill)
        with pytest.raises(KeyboardInterrupt):
            collect_blobs()
    assert BlobDeletion.objects.get().deleted_at is None
    collect_blobs()
    assert not blobs().exists(digest)


@pytest.mark.django_db
def test_the_marker_continues_after_a_full_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage_collection, "BATCH_SIZE", 2)
    Blob.objects.bulk_create(Blob(sha256=f"{number:064x}", size=1) for number in range(5))
    assert BlobMarker().mark() == 5


def test_rows_of_ended_uploads_are_deleted(publisher: Publisher) -> None:
    publisher.upload(b"stored")
    verify_uploads()
    publisher.start(b"open")
    SentArchive.objects.create(name="vad", version="1", size=1, state="refused", actor="operator:alice")
    assert delete_old_rows() == 0
    Upload.objects.update(touched_at=timezone.now() - timedelta(days=31))
    SentArchive.objects.update(created_at=timezone.now() - timedelta(days=31))
    assert delete_old_rows() == 2
    assert [upload.state for upload in Upload.objects.all()] == ["open"]


def in_own_connection(call: Callable[[], object]) -> None:
    """Call it in a thread, and close the thread's database connection."""
    try:
        call()
    finally:
        connection.close()


def draft_of(content: bytes, version: str = "1.0.0") -> Bundle:
    manifest = read(manifest_of({"model": content}, version=version))
    return draft(manifest, actor="operator:alice", user=None).bundle


@pytest.mark.django_db(transaction=True)
def test_a_draft_waits_for_a_deletion_and_then_asks_for_the_bytes(storage: Path) -> None:
    store_unused()
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert garbage_collection._condemn_batch() == 1
            drafting = pool.submit(in_own_connection, lambda: draft_of(CONTENT))
            with pytest.raises(TimeoutError):
                drafting.result(0.5)
        drafting.result(30)
    (missing,) = missing_blobs(Bundle.objects.get())
    assert missing.sha256 == sha256(CONTENT)


@pytest.mark.django_db(transaction=True)
def test_an_earlier_draft_keeps_the_blob(storage: Path) -> None:
    store_unused()
    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        bundle = draft_of(CONTENT)
        pool.submit(in_own_connection, collect_blobs).result(30)
    collect_blobs()
    assert blobs().exists(sha256(CONTENT))
    assert not missing_blobs(bundle)


@pytest.mark.django_db(transaction=True)
def test_concurrent_drafts_uploads_and_collectors_lose_no_blob(client: Client, storage: Path) -> None:
    check_nothing_is_lost(Publisher(client, make_token(make_user(), "publisher")))


def check_nothing_is_lost(publisher: Publisher, rounds: int = 8) -> None:
    """Draft bundles of blobs that two collectors delete and a scheduler verifies at the same time."""
    contents = [b"%d" % number * 100 for number in range(rounds)]

    def collect() -> None:
        for _ in range(3):
            collect_blobs()

    for number, content in enumerate(contents):
        store_unused(content)
        tasks = [collect, collect, lambda: draft_of(content, f"{number}"), verify_uploads]  # noqa: B023 - ends below
        with ThreadPoolExecutor(len(tasks)) as pool:
            list(pool.map(in_own_connection, tasks))
        bundle = Bundle.objects.get_by_label(f"vad@{number}")
        is_missing = bool(missing_blobs(bundle))
        assert is_missing or blobs().exists(sha256(content))
        if is_missing:
            Upload.objects.bulk_create([Upload(sha256=sha256(content), size=len(content), part_size=1000)])
            upload = Upload.objects.get(sha256=sha256(content))
            blobs().write(upload.pk, 0, [content], lambda: True)
            assert upload.transition_to("verifying")
        age_everything()
        collect_blobs()
        verify_uploads()
        publish(bundle, actor="operator:alice")
        verify_bundles()
        assert Bundle.objects.get(pk=bundle.pk).state == "ready"
    for content in contents:
        with blobs().open(sha256(content)) as file:
            assert file.read() == content
