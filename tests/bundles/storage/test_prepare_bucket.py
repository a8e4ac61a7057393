"""manage.py prepare_bucket: CORS rules for browsers, and lifecycle rules for abandoned bytes."""

import io
import json
from typing import Any

import pytest
import requests
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from bundles.storage.s3_client import Bucket
from tests.bundles.storage.conftest import Place

ORIGIN = "https://fleet.example.com"


def prepare(*words: str) -> Any:
    out = io.StringIO()
    call_command("prepare_bucket", "--json", *words, stdout=out)
    return json.loads(out.getvalue())


def preflight(place: Place, origin: str) -> requests.Response:
    return requests.options(
        f"{place.line.url}/{place.name}/uploads/x", timeout=20,
        headers={"Origin": origin, "Access-Control-Request-Method": "PUT"},
    )  # fmt: skip


def test_only_the_admins_origin_may_upload(place: Place, bucket: Bucket, settings: Settings) -> None:
    settings.PUBLIC_URL = ORIGIN
    assert preflight(place, ORIGIN).status_code == 403
    assert prepare() == {"bucket": place.name, "set": ["cors", "lifecycle"]}
    assert preflight(place, ORIGIN).headers["Access-Control-Allow-Origin"] == ORIGIN
    assert preflight(place, "https://evil.example.com").status_code == 403


def test_preparing_is_idempotent(place: Place, bucket: Bucket) -> None:
    assert prepare("--origin", ORIGIN)["set"] == ["cors", "lifecycle"]
    assert prepare("--origin", ORIGIN)["set"] == []


def test_other_rules_are_kept(place: Place, bucket: Bucket) -> None:
    theirs = {"AllowedOrigins": ["https://other.example.com"], "AllowedMethods": ["GET"]}
    place.client.put_bucket_cors(Bucket=place.name, CORSConfiguration={"CORSRules": [theirs]})
    rule = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 90}}
    place.client.put_bucket_lifecycle_configuration(Bucket=place.name, LifecycleConfiguration={"Rules": [rule]})
    prepare("--origin", ORIGIN)
    origins = [rule["AllowedOrigins"] for rule in place.client.get_bucket_cors(Bucket=place.name)["CORSRules"]]
    assert origins == [["https://other.example.com"], [ORIGIN]]
    rules = place.client.get_bucket_lifecycle_configuration(Bucket=place.name)["Rules"]
    assert {rule["ID"] for rule in rules} == {"theirs", "kernex-abandoned-parts", "kernex-leftovers"}


def test_checking_changes_nothing(place: Place, bucket: Bucket) -> None:
    with pytest.raises(SystemExit) as exit:
        call_command("prepare_bucket", "--check", stdout=io.StringIO())
    assert exit.value.code == 1
    assert preflight(place, "http://127.0.0.1:8000").status_code == 403
    prepare()
    assert prepare("--check")["missing"] == []


def test_unreachable_storage_is_reported_in_a_sentence(place: Place, bucket: Bucket) -> None:
    place.line.cut()
    with pytest.raises(CommandError, match="cannot be used right now"):
        prepare()


def test_prepare_bucket_needs_a_bucket() -> None:
    with pytest.raises(CommandError, match="STORAGE_BUCKET"):
        call_command("prepare_bucket")


def test_make_creates_only_a_missing_bucket(place: Place, bucket: Bucket) -> None:
    place.client.delete_bucket(Bucket=place.name)
    assert prepare("--make") == {"bucket": place.name, "set": ["bucket"]}
    assert prepare("--make")["set"] == []
    assert prepare("--origin", ORIGIN)["set"] == ["cors", "lifecycle"]
