"""The scheduler's work on uploads: hash, promote, refuse, expire, delete leftovers."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from bundles import scheduling
from bundles.models import Blob, Upload
from bundles.storage.interface import blobs
from bundles.uploads import verification
from bundles.uploads.verification import delete_leftovers, expire_uploads, verify_uploads
from foundation.events.models import Event
from tests.bundles.publisher import Publisher, sha256
from tests.factories import make_token, make_user

CONTENT = b"a blob" * 1000


def final(storage: Path, content: bytes = CONTENT) -> Path:
    return storage / "blobs" / sha256(content)[:2] / sha256(content)


def test_matching_bytes_become_a_blob(publisher: Publisher, storage: Path) -> None:
    upload = publisher.upload(CONTENT)
    assert not blobs().exists(sha256(CONTENT))
    assert verify_uploads() == 1
    assert final(storage).read_bytes() == CONTENT
    assert not (storage / "uploads" / upload).exists()
    assert Blob.objects.get().size == len(CONTENT)
    assert publisher.get(f"uploads/{upload}").json()["state"] == "stored"
    assert verify_uploads() == 0


def wrong_bytes(path: Path) -> None:
    path.write_bytes(b"x" * len(CONTENT))


def too_short(path: Path) -> None:
    os.truncate(path, 10)


def too_long(path: Path) -> None:
    path.write_bytes(CONTENT + b"x")


@pytest.mark.parametrize("damage", [wrong_bytes, too_short, too_long, Path.unlink])
def test_differing_bytes_are_refused_and_deleted(
    publisher: Publisher, storage: Path, damage: Callable[[Path], None]
) -> None:
    upload = publisher.upload(CONTENT)
    damage(storage / "uploads" / upload)
    assert verify_uploads() == 1
    response = publisher.get(f"uploads/{upload}").json()
    assert response["state"] == "refused"
    assert "declared" in response["state_reason"]
    assert list((storage / "uploads").iterdir()) == []
    assert not final(storage).exists()
    assert not Blob.objects.exists()
    assert Event.objects.filter(kind="upload.refused", actor="scheduler").count() == 1


def test_two_publishers_may_upload_the_same_blob(publisher: Publisher, bob: Publisher, storage: Path) -> None:
    uploads = [publisher.upload(CONTENT), bob.upload(CONTENT)]
    assert verify_uploads() == 2
    assert set(Upload.objects.values_list("pk", "state")) == {(UUID(pk), "stored") for pk in uploads}
    assert list((storage / "uploads").iterdir()) == []
    assert final(storage).stat().st_nlink == 1


def test_a_final_key_is_never_overwritten(publisher: Publisher, storage: Path) -> None:
    final(storage).parent.mkdir(parents=True)
    final(storage).write_bytes(b"something else")
    upload = publisher.upload(CONTENT)
    verify_uploads()
    assert final(storage).read_bytes() == b"something else"
    response = publisher.get(f"uploads/{upload}").json()
    assert response["state"] == "refused"
    assert "move it aside" in response["state_reason"]
    assert not Blob.objects.exists()


def test_the_same_bytes_at_the_final_key_are_accepted(publisher: Publisher, storage: Path) -> None:
    final(storage).parent.mkdir(parents=True)
    final(storage).write_bytes(CONTENT)
    inode = final(storage).stat().st_ino
    publisher.upload(CONTENT)
    verify_uploads()
    assert Blob.objects.count() == 1
    assert final(storage).stat().st_ino == inode


def test_an_upload_that_another_process_holds_is_skipped(publisher: Publisher) -> None:
    upload = publisher.upload(CONTENT)
    with blobs().sealed(UUID(upload)):
        assert verify_uploads() == 0
    assert verify_uploads() == 1


def test_the_state_is_read_again_after_the_upload_is_sealed(publisher: Publisher) -> None:
    upload = UUID(publisher.upload(CONTENT))
    Upload.objects.update(state="expired")
    with blobs().sealed(upload) as held:
        assert verification.verify(upload, held) is False
    assert Upload.objects.get().state == "expired"
    assert not blobs().exists(sha256(CONTENT))
    assert not Blob.objects.exists()


def test_one_run_is_bounded_in_time(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (b"1", b"2", b"3"):
        publisher.upload(content)
    monkeypatch.setattr(verification, "RUN_SECONDS", 0.0)
    assert [verify_uploads() for _ in range(4)] == [1, 1, 1, 0]


def test_abandoned_uploads_expire(publisher: Publisher, storage: Path) -> None:
    old, new = publisher.start(b"old").json()["id"], publisher.start(b"new").json()["id"]
    publisher.put(old, 1, b"old")
    publisher.put(new, 1, b"new")
    Upload.objects.filter(pk=old).update(touched_at=timezone.now() - timedelta(days=2))
    assert (expire_uploads(), expire_uploads()) == (1, 0)
    assert delete_leftovers() == 1
    assert [path.name for path in (storage / "uploads").iterdir()] == [new]
    assert publisher.get(f"uploads/{old}").json()["state"] == "expired"


def test_only_bytes_of_ended_uploads_are_swept(publisher: Publisher, storage: Path) -> None:
    publisher.upload(b"being verified")
    ended = publisher.upload(b"stored, but its bytes were not deleted")
    Upload.objects.filter(pk=ended).update(state="stored")
    unknown, ancient = storage / "uploads" / str(uuid4()), storage / "uploads" / str(uuid4())
    unknown.touch()
    ancient.touch()
    os.utime(ancient, (0, 0))
    (storage / "uploads" / "README").touch()
    assert delete_leftovers() == 2
    assert not ancient.exists()
    assert unknown.exists()
    assert len(list((storage / "uploads").iterdir())) == 3


@pytest.mark.django_db
def test_every_task_runs_on_empty_storage() -> None:
    assert [task.function() for task in scheduling.TASKS] == [0] * len(scheduling.TASKS)


@pytest.mark.django_db(transaction=True)
def test_concurrent_schedulers_verify_each_upload_once(client: Client, storage: Path) -> None:
    publisher = Publisher(client, make_token(make_user(), "publisher"))
    for number in range(20):
        publisher.upload(b"%d" % number)

    def run(_: int) -> int:
        try:
            return sum(verify_uploads() for _ in range(3))
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(run, range(3))) == 20
    assert Blob.objects.count() == Upload.objects.filter(state="stored").count() == 20
    delete_leftovers()
    assert list((storage / "uploads").iterdir()) == []
