"""Backups in a bucket: backup, restore, damaged backups, a wrong key, an unreachable bucket."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.bundles.storage.conftest import SECRET, RemoteBucket, remote_bucket, s3_port
from tests.live import Live
from tests.operations.test_backup import PROGRAMS, empty_environment, fetch, manage, source

__all__ = ["empty_environment", "remote_bucket", "s3_port", "source"]

TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"


@pytest.fixture
def source_environment(source: Live, remote_bucket: RemoteBucket) -> dict[str, str]:
    """The environment of the control plane whose backups go into the bucket."""
    return {**source.environment, **remote_bucket.environment}


@pytest.fixture
def restore_environment(empty_environment: dict[str, str], remote_bucket: RemoteBucket) -> dict[str, str]:
    """The environment of another machine that has the access key of the same bucket."""
    return {**empty_environment, **remote_bucket.environment}


def bucket_url(remote_bucket: RemoteBucket) -> str:
    return f"s3://{remote_bucket.name}/nightly"


def back_up(source_environment: dict[str, str], remote_bucket: RemoteBucket, *arguments: str) -> dict[str, Any]:
    result = manage(
        source_environment, "backup", bucket_url(remote_bucket), "--json", "--programs", PROGRAMS, *arguments
    )
    assert result.returncode == 0, result.stderr
    description: dict[str, Any] = json.loads(result.stdout)
    return description


def refusal(environment: dict[str, str], *arguments: str) -> str:
    """Run a command that must exit with 1. Return its standard error."""
    result = manage(environment, *arguments, "--programs", PROGRAMS)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert SECRET not in result.stderr
    return result.stderr


def test_everything_is_restored(
    source_environment: dict[str, str], restore_environment: dict[str, str], remote_bucket: RemoteBucket
) -> None:
    name = back_up(source_environment, remote_bucket, "--blobs")["name"]
    blobs = [key for key in remote_bucket.object_keys() if key.startswith("nightly/blobs/")]
    assert len(blobs) == 2
    result = manage(restore_environment, "restore", bucket_url(remote_bucket), name, "--programs", PROGRAMS)
    assert result.returncode == 0, result.stderr
    assert fetch(restore_environment, "SELECT name, state FROM devices_device") == ("edge-1", "accepted")
    for key in blobs:
        assert remote_bucket.get(key.removeprefix("nightly/")) == remote_bucket.get(key)
    assert remote_bucket.unfinished_uploads() == []


def test_without_a_name_complete_backups_are_listed(
    source_environment: dict[str, str], remote_bucket: RemoteBucket
) -> None:
    name = back_up(source_environment, remote_bucket)["name"]
    remote_bucket.put("nightly/kernex-20990101T000000Z/database.dump", b"cut off")
    remote_bucket.put("kernex-20990101T000000Z/backup.json", b"of somebody else")
    listed = manage(source_environment, "restore", bucket_url(remote_bucket))
    assert (listed.returncode, listed.stdout) == (0, f"{name}\n")


def test_a_blob_in_the_bucket_is_not_sent_again(
    source_environment: dict[str, str], remote_bucket: RemoteBucket
) -> None:
    back_up(source_environment, remote_bucket, "--blobs")
    before = remote_bucket.proxy.up
    dump = back_up(source_environment, remote_bucket, "--blobs")["dump"]
    assert remote_bucket.proxy.up - before - dump["size"] < 100_000  # the larger blob alone is larger than this


Damage = Callable[[RemoteBucket, str], None]


def flip_a_bit_of_the_dump(remote_bucket: RemoteBucket, name: str) -> None:
    key = f"nightly/{name}/database.dump"
    content = bytearray(remote_bucket.get(key))
    content[len(content) // 2] ^= 1
    remote_bucket.put(key, bytes(content))


def truncate_the_dump(remote_bucket: RemoteBucket, name: str) -> None:
    key = f"nightly/{name}/database.dump"
    remote_bucket.put(key, remote_bucket.get(key)[:-100])


def empty_the_blob_list(remote_bucket: RemoteBucket, name: str) -> None:
    remote_bucket.put(f"nightly/{name}/blobs.txt", b"")


def delete_the_dump(remote_bucket: RemoteBucket, name: str) -> None:
    remote_bucket.client.delete_object(Bucket=remote_bucket.name, Key=f"nightly/{name}/database.dump")


def delete_the_description(remote_bucket: RemoteBucket, name: str) -> None:
    remote_bucket.client.delete_object(Bucket=remote_bucket.name, Key=f"nightly/{name}/backup.json")


def truncate_the_description(remote_bucket: RemoteBucket, name: str) -> None:
    key = f"nightly/{name}/backup.json"
    remote_bucket.put(key, remote_bucket.get(key)[:-20])


def empty_the_description(remote_bucket: RemoteBucket, name: str) -> None:
    remote_bucket.put(f"nightly/{name}/backup.json", b"{}")


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit_of_the_dump,
        truncate_the_description,
        *(
            pytest.param(each, marks=pytest.mark.long)
            for each in (
                truncate_the_dump, empty_the_blob_list, delete_the_dump, delete_the_description, empty_the_description,
            )
        ),
    ],
)  # fmt: skip
def test_a_damaged_backup_changes_nothing(
    source_environment: dict[str, str], restore_environment: dict[str, str], remote_bucket: RemoteBucket, damage: Damage
) -> None:
    name = back_up(source_environment, remote_bucket)["name"]
    damage(remote_bucket, name)
    refusal(restore_environment, "restore", bucket_url(remote_bucket), name)
    assert fetch(restore_environment, TABLES) == 0


def test_a_wrong_key_is_reported(source_environment: dict[str, str], remote_bucket: RemoteBucket) -> None:
    error = refusal({**source_environment, "STORAGE_SECRET_KEY": "wrong"}, "backup", bucket_url(remote_bucket))
    assert f"The bucket {remote_bucket.name} cannot be used" in error
    assert remote_bucket.object_keys() == []


def test_a_missing_bucket_is_reported(source_environment: dict[str, str], restore_environment: dict[str, str]) -> None:
    assert "The bucket nowhere cannot be used" in refusal(source_environment, "backup", "s3://nowhere/nightly")
    refusal(restore_environment, "restore", "s3://nowhere/nightly", "kernex-20260131T120000Z")
    assert fetch(restore_environment, TABLES) == 0


def test_an_unreachable_bucket_is_reported(
    source_environment: dict[str, str], restore_environment: dict[str, str], remote_bucket: RemoteBucket
) -> None:
    name = back_up(source_environment, remote_bucket)["name"]
    remote_bucket.proxy.cut()
    assert f"The bucket {remote_bucket.name} cannot be used" in refusal(
        source_environment, "backup", bucket_url(remote_bucket)
    )
    assert f"The bucket {remote_bucket.name} cannot be used" in refusal(
        restore_environment, "restore", bucket_url(remote_bucket), name
    )
    assert fetch(restore_environment, TABLES) == 0
    remote_bucket.proxy.restore()
    assert (
        manage(restore_environment, "restore", bucket_url(remote_bucket), name, "--programs", PROGRAMS).returncode == 1
    )  # the backup has no blobs
    assert fetch(restore_environment, TABLES) > 0
