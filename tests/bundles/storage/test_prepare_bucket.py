"""manage.py prepare_bucket: CORS rules for browsers, and lifecycle rules for abandoned bytes."""

import io
import json
from typing import Any

import pytest
import requests
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from bundles.storage.s3_client import Bucket
from tests.bundles.storage.conftest import RemoteBucket

ORIGIN = "https://fleet.example.com"


def prepare(*arguments: str) -> Any:
    out = io.StringIO()
    call_command("prepare_bucket", "--json", *arguments, stdout=out)
    return json.loads(out.getvalue())


def preflight(remote_bucket: RemoteBucket, origin: str) -> requests.Response:
    return requests.options(
        f"{remote_bucket.proxy.url}/{remote_bucket.name}/uploads/x", timeout=20,
        headers={"Origin": origin, "Access-Control-Request-Method": "PUT"},
    )  # fmt: skip


def test_only_the_admins_origin_may_upload(remote_bucket: RemoteBucket, bucket: Bucket, settings: Settings) -> None:
    settings.PUBLIC_URL = ORIGIN
    assert preflight(remote_bucket, ORIGIN).status_code == 403
    assert prepare() == {"bucket": remote_bucket.name, "set": ["cors", "lifecycle"]}
    assert preflight(remote_bucket, ORIGIN).headers["Access-Control-Allow-Origin"] == ORIGIN
    assert preflight(remote_bucket, "https://evil.example.com").status_code == 403


def test_preparing_is_idempotent(remote_bucket: RemoteBucket, bucket: Bucket) -> None:
    assert prepare("--origin", ORIGIN)["set"] == ["cors", "lifecycle"]
    assert prepare("--origin", ORIGIN)["set"] == []


def test_other_rules_are_kept(remote_bucket: RemoteBucket, bucket: Bucket) -> None:
    theirs = {"AllowedOrigins": ["https://other.example.com"], "AllowedMethods": ["GET"]}
    name, client = remote_bucket.name, remote_bucket.client
    client.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [theirs]})
    rule = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 90}}
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
    prepare("--origin", ORIGIN)
    origins = [rule["AllowedOrigins"] for rule in client.get_bucket_cors(Bucket=name)["CORSRules"]]
    assert origins == [["https://other.example.com"], [ORIGIN]]
    rules = client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert {rule["ID"] for rule in rules} == {"theirs", "kernex-abandoned-parts", "kernex-leftovers"}


def test_checking_changes_nothing(remote_bucket: RemoteBucket, bucket: Bucket) -> None:
    with pytest.raises(SystemExit) as exit:
        call_command("prepare_bucket", "--check", stdout=io.StringIO())
    assert exit.value.code == 1
    assert preflight(remote_bucket, "http://127.0.0.1:8000").status_code == 403
    prepare()
    assert prepare("--check")["missing"] == []


def test_unreachable_storage_is_reported_in_a_sentence(remote_bucket: RemoteBucket, bucket: Bucket) -> None:
    remote_bucket.proxy.cut()
    with pytest.raises(CommandError, match="cannot be used right now"):
        prepare()


def test_prepare_bucket_needs_a_bucket() -> None:
    with pytest.raises(CommandError, match="STORAGE_BUCKET"):
        call_command("prepare_bucket")


def test_make_creates_only_a_missing_bucket(remote_bucket: RemoteBucket, bucket: Bucket) -> None:
    remote_bucket.client.delete_bucket(Bucket=remote_bucket.name)
    assert prepare("--make") == {"bucket": remote_bucket.name, "set": ["bucket"]}
    assert prepare("--make")["set"] == []
    assert prepare("--origin", ORIGIN)["set"] == ["cors", "lifecycle"]
