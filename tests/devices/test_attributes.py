"""PUT /devices/{id}/attributes."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from devices.models import Device
from tests.devices.signing import SigningDevice


def put(device: SigningDevice, version: Any, attributes: Any, **options: Any) -> Any:
    body = {"version": version, "attributes": attributes}
    return device.call("PUT", f"/devices/{device.id}/attributes", body, **options)


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_it_keeps_the_newest_version(device: SigningDevice) -> None:
    assert put(device, 3, {"os": "linux"}).json() == {"version": 3}
    for older in (3, 2):
        assert put(device, older, {"os": "other"}).json() == {"version": 3}
    assert Device.objects.get(pk=device.id).attributes == {"os": "linux"}
    assert put(device, 4, {"a": {"b": [1, None, "ü"]}}).json() == {"version": 4}
    assert Device.objects.get(pk=device.id).attributes == {"a": {"b": [1, None, "ü"]}}


def test_it_does_not_change_what_operators_decide(device: SigningDevice, row: Device) -> None:
    row.edit("operator:alice", name="Door 7", tags=["north"])
    put(device, 1, {"name": "mine", "tags": [], "group": "other"})
    row.refresh_from_db()
    assert (row.name, row.tags, row.group.name) == ("Door 7", ["north"], "lab")


def test_it_refuses_the_url_of_another_device(
    device: SigningDevice, make_signing: Callable[..., SigningDevice]
) -> None:
    for device_id in (make_signing().id, uuid4()):
        response = device.call("PUT", f"/devices/{device_id}/attributes", {"version": 1, "attributes": {}})
        assert code(response) == (401, "unknown_device")
    assert not Device.objects.filter(attributes_version__gt=0).exists()


@pytest.mark.parametrize("state", ["pending", "decommissioned"])
def test_it_refuses_a_device_that_is_not_accepted(make_signing: Callable[..., SigningDevice], state: str) -> None:
    assert code(put(make_signing(state=state), 1, {})) == (403, state)


def test_it_refuses_an_unknown_key(client: Client, db: None) -> None:
    stranger = SigningDevice(client, id=uuid4())
    assert code(put(stranger, 1, {})) == (401, "unknown_device")


def test_it_refuses_an_unsigned_request(device: SigningDevice) -> None:
    response = put(device, 1, {}, forge={"Signature": None})
    assert code(response) == (401, "not_signed")
    assert code(put(device, 1, {}, sent=b'{"version": 2, "attributes": {}}')) == (401, "bad_digest")
    assert code(put(device, 1, {}, created=1)) == (401, "clock_skew")


@pytest.mark.parametrize(
    ("version", "attributes", "field"),
    [
        (0, {}, "version"),
        (-1, {}, "version"),
        (1.5, {}, "version"),
        ("x", {}, "version"),
        (None, {}, "version"),
        (1, None, "attributes"),
        (1, [], "attributes"),
        (1, {"x": "y" * 70_000}, "attributes"),
        (1, {"x": [2**53 + 1]}, "attributes"),
        (1, {"x": {"y": 1e-308}}, "attributes"),
    ],
)
def test_it_names_the_invalid_field(device: SigningDevice, version: Any, attributes: Any, field: str) -> None:
    response = put(device, version, attributes)
    assert code(response) == (400, "invalid")
    assert list(response.json()["error"]["fields"]) == [field]


def test_it_needs_few_queries(device: SigningDevice, django_assert_max_num_queries: Callable[[int], Any]) -> None:
    with django_assert_max_num_queries(4):
        put(device, 1, {"os": "linux"})
