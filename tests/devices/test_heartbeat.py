"""POST /devices/{id}/heartbeat."""

from devices.models import Device
from tests.devices.signing import SigningDevice


def test_it_keeps_what_the_device_says(device: SigningDevice) -> None:
    answer = device.heartbeat()
    assert answer.status_code == 200, answer.content
    assert answer.json() == {"state": "accepted", "interval_seconds": 60, "commands": []}
    row = Device.objects.get(pk=device.id)
    assert row.sequence == 1
    assert row.is_online
