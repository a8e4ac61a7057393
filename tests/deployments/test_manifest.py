"""GET /api/v1/trust/targets/{name}/{manifest_sha256}.{version}.json"""

import hashlib

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from bundles.models import Bundle
from devices.models import Device
from tests.devices.signing import SigningDevice
from tests.factories import make_bundle, make_device_deployment


def path_of(bundle: Bundle) -> str:
    return f"/trust/targets/{bundle.name}/{bundle.manifest_sha256}.{bundle.version}.json"


@pytest.mark.parametrize("version", ["1.0.0", "1", "1.0.json", "2.0.0+build.7", "1_0-a"])
def test_the_manifest_is_sent_byte_for_byte(device: SigningDevice, version: str) -> None:
    bundle = make_bundle(f"vad@{version}", {"größe.txt": b"text"})
    response = device.call("GET", path_of(bundle))
    assert response.status_code == 200
    assert hashlib.sha256(response.content).hexdigest() == bundle.manifest_sha256
    assert len(response.content) == bundle.manifest_size
    assert response["Content-Type"] == "application/json"
    assert response["ETag"] == f'"{bundle.manifest_sha256}"'


def test_name_version_and_digest_must_match(device: SigningDevice, bundle: Bundle) -> None:
    other = make_bundle("asr@2.0.0")
    for path in (
        f"/trust/targets/asr/{bundle.manifest_sha256}.1.0.0.json",
        f"/trust/targets/vad/{bundle.manifest_sha256}.2.0.0.json",
        f"/trust/targets/vad/{other.manifest_sha256}.1.0.0.json",
        f"/trust/targets/vad/{'0' * 64}.1.0.0.json",
    ):
        response = device.call("GET", path)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_manifest")


@pytest.mark.parametrize("path", ["vad/1.0.0.json", "VAD/x.json", f"vad/{'0' * 64}.json", "../x", "vad/%00.json"])
def test_other_paths_are_not_found(device: SigningDevice, path: str) -> None:
    assert device.call("GET", f"/trust/targets/{path}").status_code in {401, 404}


@pytest.mark.parametrize("state", ["draft", "verifying", "withdrawn"])
def test_bundles_that_are_not_ready_are_not_found(device: SigningDevice, state: str) -> None:
    assert device.call("GET", path_of(make_bundle(state=state))).status_code == 404


def test_a_device_with_an_active_deployment_may_fetch_a_withdrawn_bundle(device: SigningDevice, bundle: Bundle) -> None:
    make_device_deployment("accepted", device=Device.objects.get(pk=device.id), bundle=bundle)
    Bundle.objects.update(state="withdrawn")
    assert device.call("GET", path_of(bundle)).status_code == 200


@pytest.mark.parametrize("state", ["pending", "decommissioned"])
def test_only_accepted_devices_may_fetch_manifests(device: SigningDevice, bundle: Bundle, state: str) -> None:
    Device.objects.filter(pk=device.id).update(state=state)
    assert device.call("GET", path_of(bundle)).status_code == 403


def test_unsigned_requests_are_refused(client: Client, bundle: Bundle) -> None:
    assert client.get(f"/api/v1{path_of(bundle)}").status_code == 401


def test_a_manifest_needs_three_queries(
    device: SigningDevice, bundle: Bundle, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(3):  # the device, its rate limit, the manifest
        device.call("GET", path_of(bundle))
