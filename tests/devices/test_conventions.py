"""Conventions of all endpoints: rate limits of devices, and lists that refuse unknown parameters."""

from typing import Any

import pytest
from django.test import Client

from devices.models import Device, LogRequest
from tests.devices.operators import Person
from tests.devices.signing import SigningDevice
from tests.factories import make_enrolment_token

LISTS = [
    "/devices", "/devices/{id}/history", "/devices/{id}/commands", "/devices/{id}/logs", "/groups", "/enrolment-tokens",
]  # fmt: skip


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize("path", LISTS)
def test_a_list_refuses_an_unknown_parameter(row: Device, victor: Person, path: str) -> None:
    path = path.replace("{id}", str(row.pk))
    response = victor.get(f"{path}?bundle=nosuch@9")
    assert code(response) == (400, "unknown_parameter")
    assert "cursor" in response.json()["error"]["parameters"]
    assert victor.get(f"{path}?page_size=1").status_code == 200


def test_a_device_that_sends_too_many_requests_is_throttled(device: SigningDevice, row: Device, settings: Any) -> None:
    settings.DEVICE_REQUESTS_PER_MINUTE = 2
    request = LogRequest.open_for(row, actor="operator:alice").log_request
    path, body = f"/devices/{device.id}/attributes", {"version": 1, "attributes": {}}
    batch = {"batch": 1, "source": "agent", "text": "", "is_last": False}
    assert device.call("PUT", path, body).status_code == 200
    assert device.call("POST", f"/devices/{device.id}/log-requests/{request.pk}/batches", batch).status_code == 200
    response = device.call("PUT", path, body)
    assert code(response) == (429, "throttled")
    assert int(response.headers["Retry-After"]) > 0
    assert device.heartbeat().status_code == 200


def test_registrations_are_throttled_by_client_address(db: None, client: Client, settings: Any) -> None:
    settings.REGISTRATIONS_PER_MINUTE = 1
    _, secret = make_enrolment_token(uses_allowed=3)
    assert SigningDevice(client).register(secret).status_code == 201
    assert code(SigningDevice(client).register(secret)) == (429, "throttled")
