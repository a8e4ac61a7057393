"""Backups in a bucket: the way there and back, and what a damaged backup, a wrong key or a bucket that is away do."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.bundles.storage.conftest import SECRET, Place, place, s3_port
from tests.live import Live
from tests.operations.test_backup import PROGRAMS, ask, empty, manage, source

__all__ = ["empty", "place", "s3_port", "source"]

TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"


@pytest.fixture
def here(source: Live, place: Place) -> dict[str, str]:
    """The environment of the control plane whose backups go into the bucket."""
    return {**source.environment, **place.environment}


@pytest.fixture
def elsewhere(empty: dict[str, str], place: Place) -> dict[str, str]:
    """The environment of another machine that has the key of the same bucket."""
    return {**empty, **place.environment}


def address(place: Place) -> str:
    return f"s3://{place.name}/nightly"


def back_up(here: dict[str, str], place: Place, *words: str) -> dict[str, Any]:
    done = manage(here, "backup", address(place), "--json", "--programs", PROGRAMS, *words)
    assert done.returncode == 0, done.stderr
    about: dict[str, Any] = json.loads(done.stdout)
    return about


def refusal(environment: dict[str, str], *words: str) -> str:
    """What a command said that ended with 1."""
    done = manage(environment, *words, "--programs", PROGRAMS)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr
    return done.stderr


def test_everything_comes_back(here: dict[str, str], elsewhere: dict[str, str], place: Place) -> None:
    name = back_up(here, place, "--blobs")["name"]
    blobs = [key for key in place.listed() if key.startswith("nightly/blobs/")]
    assert len(blobs) == 2
    done = manage(elsewhere, "restore", address(place), name, "--programs", PROGRAMS)
    assert done.returncode == 0, done.stderr
    assert ask(elsewhere, "SELECT name, state FROM devices_device") == ("edge-1", "accepted")
    for key in blobs:
        assert place.get(key.removeprefix("nightly/")) == place.get(key)
    assert place.begun() == []


def test_without_a_name_the_whole_ones_are_listed(here: dict[str, str], place: Place) -> None:
    name = back_up(here, place)["name"]
    place.put("nightly/kernex-20990101T000000Z/database.dump", b"cut off")
    place.put("kernex-20990101T000000Z/backup.json", b"of somebody else")
    listed = manage(here, "restore", address(place))
    assert (listed.returncode, listed.stdout) == (0, f"{name}\n")


def test_a_blob_that_the_bucket_holds_is_sent_once(here: dict[str, str], place: Place) -> None:
    back_up(here, place, "--blobs")
    before = place.line.up
    dump = back_up(here, place, "--blobs")["dump"]
    assert place.line.up - before - dump["size"] < 100_000  # the larger blob alone is more


Damage = Callable[[Place, str], None]


def flip_the_dump(place: Place, name: str) -> None:
    key = f"nightly/{name}/database.dump"
    content = bytearray(place.get(key))
    content[len(content) // 2] ^= 1
    place.put(key, bytes(content))


def cut_the_dump(place: Place, name: str) -> None:
    key = f"nightly/{name}/database.dump"
    place.put(key, place.get(key)[:-100])


def swap_the_list(place: Place, name: str) -> None:
    place.put(f"nightly/{name}/blobs.txt", b"")


def lose_the_dump(place: Place, name: str) -> None:
    place.client.delete_object(Bucket=place.name, Key=f"nightly/{name}/database.dump")


def lose_the_description(place: Place, name: str) -> None:
    place.client.delete_object(Bucket=place.name, Key=f"nightly/{name}/backup.json")


def cut_the_description(place: Place, name: str) -> None:
    key = f"nightly/{name}/backup.json"
    place.put(key, place.get(key)[:-20])


def empty_the_description(place: Place, name: str) -> None:
    place.put(f"nightly/{name}/backup.json", b"{}")


@pytest.mark.parametrize(
    "damage",
    [
        flip_the_dump, cut_the_dump, swap_the_list, lose_the_dump, lose_the_description, cut_the_description,
        empty_the_description,
    ],
)  # fmt: skip
def test_a_damaged_backup_changes_nothing(
    here: dict[str, str], elsewhere: dict[str, str], place: Place, damage: Damage
) -> None:
    name = back_up(here, place)["name"]
    damage(place, name)
    refusal(elsewhere, "restore", address(place), name)
    assert ask(elsewhere, TABLES) == 0


def test_a_wrong_key_is_a_sentence(here: dict[str, str], place: Place) -> None:
    said = refusal({**here, "STORAGE_SECRET_KEY": "wrong"}, "backup", address(place))
    assert f"The bucket {place.name} cannot be used" in said
    assert place.listed() == []


def test_a_bucket_that_does_not_exist_is_a_sentence(here: dict[str, str], elsewhere: dict[str, str]) -> None:
    assert "The bucket nowhere cannot be used" in refusal(here, "backup", "s3://nowhere/nightly")
    refusal(elsewhere, "restore", "s3://nowhere/nightly", "kernex-20260131T120000Z")
    assert ask(elsewhere, TABLES) == 0


def test_a_bucket_that_is_away_is_a_sentence(here: dict[str, str], elsewhere: dict[str, str], place: Place) -> None:
    name = back_up(here, place)["name"]
    place.line.cut()
    assert f"The bucket {place.name} cannot be used" in refusal(here, "backup", address(place))
    assert f"The bucket {place.name} cannot be used" in refusal(elsewhere, "restore", address(place), name)
    assert ask(elsewhere, TABLES) == 0
    place.line.mend()
    assert manage(elsewhere, "restore", address(place), name, "--programs", PROGRAMS).returncode == 1  # without blobs
    assert ask(elsewhere, TABLES) > 0
