"""POST /devices/{id}/heartbeat: which signatures are accepted."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from nacl.signing import SigningKey

from devices.models import Device
from tests.devices.signing import SigningDevice, heartbeat_body


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_it_refuses_an_unknown_key(device: SigningDevice) -> None:
    device.key = SigningKey.generate()
    assert code(device.heartbeat()) == (401, "unknown_device")


def test_it_refuses_the_id_of_another_device(device: SigningDevice, make_signing: Callable[..., SigningDevice]) -> None:
    other = make_signing()
    device.id = other.id
    assert code(device.heartbeat()) == (401, "unknown_device")
    assert Device.objects.get(pk=other.id).sequence == 0


def test_it_refuses_an_unknown_id(device: SigningDevice) -> None:
    device.id = uuid4()
    assert code(device.heartbeat()) == (401, "unknown_device")


@pytest.mark.parametrize("missing", ["Content-Digest", "Signature-Input", "Signature", "Kernex-Sequence"])
def test_it_refuses_an_unsigned_request(device: SigningDevice, missing: str) -> None:
    path = f"/devices/{device.id}/heartbeat"
    response = device.call("POST", path, heartbeat_body(), sequence=1, forge={missing: None})
    assert code(response) == (401, "not_signed")


def test_it_refuses_a_heartbeat_without_a_signed_sequence(device: SigningDevice) -> None:
    path = f"/devices/{device.id}/heartbeat"
    response = device.call("POST", path, heartbeat_body(), forge={"Kernex-Sequence": "1"})
    assert code(response) == (401, "bad_signature")


def test_it_refuses_a_body_that_was_not_signed(device: SigningDevice) -> None:
    path = f"/devices/{device.id}/heartbeat"
    assert code(device.call("POST", path, heartbeat_body(), sequence=1, sent=b"{}")) == (401, "bad_digest")


def test_an_unsigned_request_does_not_touch_the_database(device: SigningDevice) -> None:
    path = f"/devices/{device.id}/heartbeat"
    forged = {"Signature": "kernex=:" + "A" * 86 + "==:"}
    with CaptureQueriesContext(connection) as queries:
        response = device.call("POST", path, heartbeat_body(), sequence=1, forge=forged)
    assert code(response) == (401, "bad_signature")
    assert len(queries) == 0


def test_a_device_with_a_wrong_clock_receives_the_server_time(device: SigningDevice) -> None:
    path = f"/devices/{device.id}/heartbeat"
    response = device.call("POST", path, heartbeat_body(), sequence=1, created=int(time.time()) - 86_400 * 365)
    assert code(response) == (401, "clock_skew")
    server_time = datetime.fromisoformat(response.json()["error"]["server_time"])
    assert abs(timezone.now() - server_time) < timedelta(seconds=10)
    again = device.call("POST", path, heartbeat_body(), sequence=1, created=int(server_time.timestamp()))
    assert again.status_code == 200


def test_an_api_token_does_not_replace_a_signature(device: SigningDevice, alice: Any) -> None:
    assert code(alice.post(f"/devices/{device.id}/heartbeat", heartbeat_body())) == (401, "not_signed")


def test_a_refusal_names_the_authentication_scheme(device: SigningDevice) -> None:
    response = device.call("POST", f"/devices/{device.id}/heartbeat", heartbeat_body())
    assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Signature")
