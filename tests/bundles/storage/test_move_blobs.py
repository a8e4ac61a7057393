"""manage.py move_blobs moves blobs from a local disk to a bucket while devices download."""

import io
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from bundles.models import Upload
from bundles.storage import s3_objects
from bundles.storage.interface import blobs
from bundles.uploads.verification import verify_uploads
from tests.bundles.publisher import Publisher, sha256
from tests.bundles.storage.conftest import RemoteBucket, use_bucket
from tests.bundles.storage.uploader import Uploader
from tests.devices.signing import SigningDevice
from tests.factories import make_bundle, make_token, make_user

CONTENTS = {"model": os.urandom(70_000), "runner": b"run", "empty": b""}


@pytest.fixture
def disk(settings: Settings, tmp_path: Path, db: None) -> Path:
    """An installation on a local disk, with a bundle."""
    directory = tmp_path / "storage"
    settings.STORAGE_DIR = directory
    settings.STORAGES = settings.STORAGES | {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": directory}}
    }
    make_bundle("vad@1.0.0", CONTENTS)
    return directory


@pytest.fixture
def switched(disk: Path, remote_bucket: RemoteBucket, settings: Settings) -> Path:
    """The same installation after the bucket was configured."""
    use_bucket(settings, remote_bucket.options)
    return disk


def move(*arguments: str, code: int = 0) -> dict[str, Any]:
    out = io.StringIO()
    with pytest.raises(SystemExit) if code else nullcontext() as ended:
        call_command("move_blobs", "--json", *arguments, stdout=out)
    assert ended is None or ended.value.code == code
    summary: dict[str, Any] = json.loads(out.getvalue())
    return summary


def fetch(device: SigningDevice, content: bytes) -> tuple[int, bytes]:
    response = device.call("GET", f"/blobs/{sha256(content)}")
    return response.status_code, b"".join(response) if response.streaming else response.content


def test_blobs_are_served_from_disk_until_they_are_moved(
    device: SigningDevice, switched: Path, remote_bucket: RemoteBucket
) -> None:
    for content in CONTENTS.values():
        assert fetch(device, content) == (200, content)
    assert move() == {"moved": 3, "bytes": 70_003, "left": 0, "damaged": []}
    for content in CONTENTS.values():
        assert fetch(device, content)[0] == 302
        assert remote_bucket.get(f"blobs/{sha256(content)[:2]}/{sha256(content)}") == content
    assert list(switched.iterdir()) == []
    assert type(blobs()).__name__ == "S3Blobs"


def test_a_stopped_move_continues_when_it_is_run_again(
    switched: Path, remote_bucket: RemoteBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_objects, "WRITE_SIZE", 16_384)
    remote_bucket.proxy.cut_after(40_000)  # in the middle of the large blob, after the small blobs
    with pytest.raises(CommandError, match="run this again"):
        move()
    assert len(remote_bucket.object_keys()) == 2
    remote_bucket.proxy.restore()
    assert move() == {"moved": 1, "bytes": 70_000, "left": 0, "damaged": []}
    assert sorted(remote_bucket.object_keys()) == sorted(
        f"blobs/{sha256(c)[:2]}/{sha256(c)}" for c in CONTENTS.values()
    )
    assert move() == {"moved": 0, "bytes": 0, "left": 0, "damaged": []}


def test_copying_beforehand_deletes_nothing(switched: Path, remote_bucket: RemoteBucket) -> None:
    before = sorted(path for path in switched.rglob("*"))
    assert move("--copy")["moved"] == 3
    assert sorted(path for path in switched.rglob("*")) == before
    assert len(remote_bucket.object_keys()) == 3
    assert move() == {"moved": 3, "bytes": 70_003, "left": 0, "damaged": []}


def test_damaged_bytes_stay_on_disk(switched: Path, remote_bucket: RemoteBucket) -> None:
    expected = sha256(CONTENTS["model"])
    path = switched / "blobs" / expected[:2] / expected
    path.chmod(0o600)
    path.write_bytes(bytes([CONTENTS["model"][0] ^ 1]) + CONTENTS["model"][1:])
    summary = move(code=1)
    assert (summary["moved"], summary["left"]) == (2, 1)
    assert expected in summary["damaged"][0]
    assert path.exists()
    assert (len(remote_bucket.object_keys()), remote_bucket.unfinished_uploads()) == (2, [])


def test_damaged_objects_in_the_bucket_are_not_trusted(switched: Path, remote_bucket: RemoteBucket) -> None:
    expected = sha256(CONTENTS["model"])
    remote_bucket.put(f"blobs/{expected[:2]}/{expected}", b"x" * 70_000)
    summary = move(code=1)
    assert "does not match its name" in summary["damaged"][0]
    assert (switched / "blobs" / expected[:2] / expected).exists()


def test_uploads_continue_after_the_switch(
    publisher_on_disk: Publisher, disk: Path, remote_bucket: RemoteBucket, settings: Settings
) -> None:
    verifying = publisher_on_disk.upload(b"was being verified")
    opened = publisher_on_disk.start(b"was open").json()["id"]
    assert publisher_on_disk.put(opened, 1, b"was open").status_code == 200
    use_bucket(settings, remote_bucket.options)
    # Uploads that were sent to the disk before the switch are verified there, and their blobs are moved.
    assert move(code=1)["left"] == 1
    assert verify_uploads() == 1
    assert Upload.objects.get(pk=verifying).state == "stored"
    # Open uploads are sent to the bucket.
    publisher = Uploader(publisher_on_disk)
    assert publisher_on_disk.start(b"was open").json()["parts"] == []
    publisher.send_all(opened, b"was open")
    assert publisher.complete(opened).status_code == 202
    assert verify_uploads() == 1
    assert Upload.objects.get(pk=opened).state == "stored"
    assert move()["left"] == 0
    assert len(remote_bucket.object_keys()) == 5
    assert not (disk / "blobs").exists()


@pytest.fixture
def publisher_on_disk(disk: Path, client: Any) -> Publisher:
    return Publisher(client, make_token(make_user("alice"), "publisher"))


def test_move_blobs_needs_a_bucket(disk: Path) -> None:
    with pytest.raises(CommandError, match="STORAGE_BUCKET"):
        call_command("move_blobs")


def test_an_open_file_stays_readable_during_the_move(switched: Path, remote_bucket: RemoteBucket) -> None:
    with blobs().open(sha256(CONTENTS["model"])) as file:
        assert file.read(10) == CONTENTS["model"][:10]
        move()
        assert file.read() == CONTENTS["model"][10:]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_progress(
    switched: Path, remote_bucket: RemoteBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen, out = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    call_command("move_blobs", stdout=out)
    assert "of 68.4 KiB" in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")
    assert out.getvalue().startswith("Moved 3 blobs (68.4 KiB).")
