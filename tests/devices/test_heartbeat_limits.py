"""Limits of one device: how often it may report, how far sequence numbers may jump, how many events it may write."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from devices.heartbeat import LAST_SEQUENCE, MAX_SEQUENCE_JUMP
from devices.models import Device
from foundation.events.models import Event
from tests.devices.signing import SigningDevice, heartbeat_body


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.fixture
def limit(settings: Any) -> None:
    """Three heartbeats at once, and one every ten seconds."""
    settings.HEARTBEAT_LIMIT_SECONDS = 10
    settings.HEARTBEAT_LIMIT_BURST = 3


def wait(seconds: float) -> None:
    """Let time pass for the rate limit."""
    due_at = Device.objects.get().heartbeat_due_at
    assert due_at is not None
    Device.objects.update(heartbeat_due_at=due_at - timedelta(seconds=seconds))


@pytest.mark.usefixtures("limit")
def test_a_device_that_sends_too_often_is_throttled(device: SigningDevice) -> None:
    assert [device.heartbeat().status_code for _ in range(4)] == [200, 200, 200, 429]
    response = device.heartbeat(status="busy")
    assert code(response) == (429, "throttled")
    assert 9 <= int(response.headers["Retry-After"]) <= 10
    assert Device.objects.get().status == "idle"


@pytest.mark.usefixtures("limit")
def test_waiting_admits_one_more_heartbeat(device: SigningDevice) -> None:
    for _ in range(3):
        device.heartbeat()
    retry_after = int(device.heartbeat().headers["Retry-After"])
    wait(retry_after)
    assert [device.heartbeat().status_code for _ in range(2)] == [200, 429]


@pytest.mark.usefixtures("limit")
def test_a_long_silence_restores_the_burst_and_no_more(device: SigningDevice) -> None:
    device.heartbeat()
    wait(86_400)
    assert [device.heartbeat().status_code for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.usefixtures("limit")
def test_a_throttled_heartbeat_can_be_sent_again(device: SigningDevice) -> None:
    for _ in range(4):
        device.heartbeat()
    wait(10)
    assert device.heartbeat(device.sequence).status_code == 200


@pytest.mark.usefixtures("limit")
def test_a_used_sequence_is_refused_before_the_limit(device: SigningDevice) -> None:
    for _ in range(4):
        device.heartbeat()
    assert code(device.heartbeat(1)) == (409, "sequence_used")


def test_zero_means_no_limit(device: SigningDevice, settings: Any) -> None:
    settings.HEARTBEAT_LIMIT_SECONDS = 0
    settings.HEARTBEAT_LIMIT_BURST = 1
    assert {device.heartbeat().status_code for _ in range(30)} == {200}


def test_the_default_allows_twenty_at_once(device: SigningDevice) -> None:
    statuses = [device.heartbeat().status_code for _ in range(30)]
    assert statuses[:20] == [200] * 20
    assert 429 in statuses


@pytest.mark.parametrize("sequence", [MAX_SEQUENCE_JUMP + 8, LAST_SEQUENCE + 1, 2**53 - 1])
def test_a_sequence_number_that_leaves_no_room_is_refused(device: SigningDevice, sequence: int) -> None:
    device.heartbeat(7)
    assert code(device.heartbeat(sequence)) == (400, "sequence_jump")
    assert Device.objects.get().sequence == 7
    assert device.heartbeat(8).status_code == 200


def test_the_largest_jump_is_allowed(device: SigningDevice) -> None:
    device.heartbeat(7)
    assert device.heartbeat(7 + MAX_SEQUENCE_JUMP).status_code == 200


def test_the_last_sequence_number_is_usable(device: SigningDevice) -> None:
    Device.objects.update(sequence=LAST_SEQUENCE - 1)
    assert device.heartbeat(LAST_SEQUENCE).status_code == 200


def alternate(device: SigningDevice, third: str) -> None:
    """Alternate two boot ids, and then use a third one, which resets the count."""
    for boot_id in ("a", "b", "a", "b", "a", third):
        device.heartbeat(boot_id=boot_id)


def test_a_device_writes_at_most_one_event_about_a_clone_an_hour(device: SigningDevice, settings: Any) -> None:
    settings.HEARTBEAT_LIMIT_SECONDS = 0
    for number in range(5):
        alternate(device, f"third-{number}")
    assert Event.objects.filter(kind="device.cloned").count() == 1
    Device.objects.update(clone_noted_at=timezone.now() - timedelta(hours=1, seconds=1))
    for number in range(5):
        alternate(device, f"fourth-{number}")
    assert Event.objects.filter(kind="device.cloned").count() == 2


def test_a_path_has_one_spelling(device: SigningDevice) -> None:
    """WSGI decodes `%68eartbeat`: only the path as it was sent tells the two apart."""
    signed = f"/devices/{device.id}/heartbeat"
    sent = f"/api/v1/devices/{device.id}/%68eartbeat"
    response = device.call("POST", signed, heartbeat_body(), sequence=1, environ={"RAW_URI": sent})
    assert code(response) == (401, "bad_signature")
    plain = device.call("POST", signed, heartbeat_body(), sequence=1, environ={"RAW_URI": f"/api/v1{signed}"})
    assert plain.status_code == 200
