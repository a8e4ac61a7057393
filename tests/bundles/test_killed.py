"""The scheduler, in a separate process, is killed before and after each of its operations, and started again."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections
from django.db.backends.utils import CursorWrapper
from django.test import Client

from bundles.missing_blobs import missing_blobs
from bundles.models import Blob, Bundle, Upload
from bundles.uploads.verification import delete_leftovers, verify_bundles, verify_uploads
from foundation.events.models import Event
from tests.bundles.publisher import Publisher, manifest_of, sha256
from tests.factories import make_token, make_user

pytestmark = pytest.mark.django_db(transaction=True)
GOOD, BAD = b"good" * 1000, b"bad" * 1000


class Killer:
    """Counts the calls that change the disk or the database, and kills this process before or after a chosen call."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            response = call(*args, **kwargs)
            self.tick()
            return response

        return counted

    def tick(self) -> None:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_at(at: int) -> bool:
    """Run the scheduler's tasks in a child that is killed at call `at`. Return False if it finished before."""
    connections.close_all()
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WIFSIGNALED(status)
    try:
        killer = Killer(at)
        for name in ("link", "unlink", "mkdir", "fsync", "open"):
            setattr(os, name, killer.around(getattr(os, name)))
        CursorWrapper.execute = killer.around(CursorWrapper.execute)  # type: ignore[method-assign]
        connection.ensure_connection()
        connection.connection.__class__.commit = killer.around(connection.connection.__class__.commit)
        verify_uploads()
        verify_bundles()
        delete_leftovers()
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.long)], ids=["some points", "every point"])
def test_the_next_run_continues_wherever_it_was_killed(client: Client, storage: Path, step: int) -> None:
    publisher = Publisher(client, make_token(make_user(), "publisher"))
    kills = 0
    for point in range(1, 400, step):
        good, bad = GOOD + b"%d" % point, BAD + b"%d" % point
        version = str(point)
        for name, content in (("good", good), ("bad", bad)):
            publisher.draft(manifest_of({name: content}, name=name, version=version))
        (storage / "uploads" / publisher.upload(bad)).write_bytes(b"other bytes")
        publisher.upload(good)
        for name in ("good", "bad"):
            publisher.post(f"bundles/{name}/{version}/publish")
        killed = killed_at(point)
        check_invariants(storage, good, bad)
        verify_uploads()
        verify_bundles()
        delete_leftovers()
        check_ended(storage, good, bad, version)
        if not killed:
            break
        kills += 1
    assert kills * step > 30


def check_invariants(storage: Path, good: bytes, bad: bytes) -> None:
    """Check what always holds: a `Blob` row has all its bytes at the final key; a ready bundle has all blobs."""
    final = storage / "blobs" / sha256(good)[:2] / sha256(good)
    assert not final.exists() or final.read_bytes() == good
    assert not Blob.objects.filter(sha256=sha256(good)).exists() or final.exists()
    assert not Blob.objects.filter(sha256=sha256(bad)).exists()
    for bundle in Bundle.objects.ready():
        assert not missing_blobs(bundle)


def check_ended(storage: Path, good: bytes, bad: bytes, version: str) -> None:
    check_invariants(storage, good, bad)
    assert Bundle.objects.get_by_label(f"good@{version}").state == "ready"
    assert Bundle.objects.get_by_label(f"bad@{version}").state == "draft"
    assert Upload.objects.get(sha256=sha256(good)).state == "stored"
    assert Upload.objects.get(sha256=sha256(bad)).state == "refused"
    assert list((storage / "uploads").iterdir()) == []
    for name, kind in (("good", "bundle.ready"), ("bad", "bundle.returned")):
        pk = Bundle.objects.get_by_label(f"{name}@{version}").pk
        assert Event.objects.filter(bundle_id=pk, kind=kind).count() == 1
