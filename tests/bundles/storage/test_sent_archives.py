"""Archives that a browser puts into the bucket and the scheduler reads there."""

import io
import os
import tarfile
import time
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any
from uuid import UUID

import pytest
import requests
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from bundles.archives.browser_uploads import ArchiveReader, expire_archives, read
from bundles.models import Bundle, SentArchive
from bundles.storage.s3_client import Bucket
from bundles.uploads.verification import delete_leftovers, verify_uploads
from foundation.events.models import Event
from tests.admin.conftest import alice, boss, staff
from tests.bundles.publisher import sha256
from tests.bundles.storage.conftest import RemoteBucket
from tests.factories import make_bundle

__all__ = ["alice", "boss", "staff"]

ADD, START = "/admin/bundles/bundle/add/", "/admin/bundles/bundle/archive/"
CONTENT = os.urandom(20_000)


def archive(**contents: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


PACKED = archive(model=CONTENT, runner=b"run")


def start(client: Client, packed: bytes = PACKED, **fields: Any) -> Any:
    return client.post(START, {"name": "vad", "version": "1.0.0", "size": len(packed), **fields})


def send(client: Client, packed: bytes = PACKED, **fields: Any) -> UUID:
    """Do what the page's script does. Return the archive's id."""
    started = start(client, packed, **fields).json()
    assert requests.put(started["url"], data=packed, timeout=20).status_code == 200
    arrived = client.post(started["arrived_url"])
    assert arrived.status_code == 200, arrived.content
    return UUID(started["arrived_url"].strip("/").rpartition("/")[2])


def test_an_archive_becomes_a_draft(boss: Client, bucket: Bucket, remote_bucket: RemoteBucket) -> None:
    pk = send(boss)
    assert read(pk) is True
    row = SentArchive.objects.get(pk=pk)
    bundle = Bundle.objects.get()
    assert (row.state, row.bundle) == ("drafted", bundle)
    assert (str(bundle), bundle.state, bundle.size) == ("vad@1.0.0", "draft", 20_003)
    assert bundle.created_by == User.objects.get(username="alice")
    assert Event.objects.get(kind="bundle.drafted").actor == "operator:alice"
    assert f"uploads/{pk}" not in remote_bucket.object_keys()
    verify_uploads()
    assert remote_bucket.get(f"blobs/{sha256(CONTENT)[:2]}/{sha256(CONTENT)}") == CONTENT
    shown = boss.get(f"/admin/bundles/sentarchive/{pk}/change/").content.decode()
    assert f"/admin/bundles/bundle/{bundle.pk}/change/" in shown


def test_reading_an_archive_twice_creates_one_draft(boss: Client, bucket: Bucket) -> None:
    pk = send(boss)
    assert (read(pk), read(pk)) == (True, False)
    assert Bundle.objects.count() == 1


@pytest.mark.parametrize(
    ("packed", "why"),
    [(b"no archive at all", "not a tar"), (PACKED[:-20], "cannot be read"), (archive(**{"../a": b""}), "'../a'")],
    ids=["not an archive", "truncated", "path outside"],
)
def test_the_reason_of_a_refusal_is_shown(
    boss: Client, bucket: Bucket, remote_bucket: RemoteBucket, packed: bytes, why: str
) -> None:
    pk = send(boss, packed)
    assert read(pk) is True
    row = SentArchive.objects.get(pk=pk)
    assert row.state == "refused"
    assert why in row.state_reason
    assert why in unescape(boss.get("/admin/bundles/sentarchive/").content.decode())
    assert not Bundle.objects.exists()
    assert remote_bucket.object_keys() == []


def test_the_url_accepts_exactly_the_declared_bytes(boss: Client, bucket: Bucket, remote_bucket: RemoteBucket) -> None:
    started = start(boss).json()
    assert requests.put(started["url"], data=PACKED + b"more", timeout=20).status_code == 403
    assert requests.put(started["url"].replace("/uploads/", "/blobs/"), data=PACKED, timeout=20).status_code == 403
    assert remote_bucket.object_keys() == []
    early = boss.post(started["arrived_url"])
    assert (early.status_code, SentArchive.objects.get().state) == (400, "open")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"name": "Vad"}, "lowercase letters"),
        ({"version": ""}, "required"),
        ({"size": 0}, "size"),
        ({"size": 6 * 1024**3}, "kernex push"),
        ({"version": "0.9.0"}, "never changes"),
    ],
)
def test_invalid_archives_are_refused_at_once(boss: Client, bucket: Bucket, fields: dict[str, Any], why: str) -> None:
    make_bundle("vad@0.9.0")
    response = start(boss, **fields)
    assert response.status_code == 400
    assert why in response.json()["message"]
    assert not SentArchive.objects.exists()


def test_only_people_who_may_add_bundles_get_a_url(
    staff: Callable[..., Client], boss: Client, bucket: Bucket, client: Client
) -> None:
    assert start(staff("bundles.view_bundle", name="victor")).status_code == 403
    assert start(client).status_code == 302
    started = start(boss).json()
    other = staff("bundles.view_bundle", "bundles.add_bundle", name="bob")
    assert other.post(started["arrived_url"]).status_code == 404
    assert other.get(START).status_code == 403


def test_the_form_refuses_archives_if_there_is_a_bucket(boss: Client, bucket: Bucket) -> None:
    page = boss.get(ADD).content.decode()
    assert f'data-start-url="{START}"' in page
    packed = io.BytesIO(PACKED)
    packed.name = "vad.tar.gz"
    response = boss.post(ADD, {"name": "vad", "version": "1.0.0", "archive": packed})
    assert "are sent directly to storage" in response.content.decode()
    assert not Bundle.objects.exists()


def test_an_archive_waits_for_storage(boss: Client, bucket: Bucket, remote_bucket: RemoteBucket) -> None:
    pk = send(boss)
    remote_bucket.proxy.cut()
    assert read(pk) is False
    assert SentArchive.objects.get(pk=pk).state == "reading"
    remote_bucket.proxy.restore()
    assert read(pk) is True


def test_an_abandoned_archive_expires(
    boss: Client, bucket: Bucket, settings: Settings, remote_bucket: RemoteBucket
) -> None:
    started = start(boss).json()
    requests.put(started["url"], data=PACKED, timeout=20)
    assert expire_archives() == 0
    SentArchive.objects.update(created_at=timezone.now() - timedelta(days=2))
    assert expire_archives() == 1
    assert boss.post(started["arrived_url"]).status_code == 400
    settings.UPLOAD_EXPIRY_SECONDS = -60
    assert delete_leftovers() == 1
    assert remote_bucket.object_keys() == []


@pytest.mark.django_db(transaction=True)
def test_the_scheduler_reads_one_archive_at_a_time(boss: Client, bucket: Bucket) -> None:
    send(boss)
    send(boss, version="2.0.0")
    reader, deadline = ArchiveReader(), time.monotonic() + 60
    started_count = 0
    while SentArchive.objects.exclude(state="drafted").exists():
        assert time.monotonic() < deadline
        started_count += reader.run()
    assert started_count == 2
    assert reader.run() == 0
    assert Bundle.objects.count() == 2
