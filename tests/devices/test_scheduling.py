"""The time-driven tasks of the devices app."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from devices import scheduling
from devices.models import Device, HeartbeatSample
from devices.scheduling import LIVENESS_EVENT_SECONDS, delete_old_samples, record_offline, record_online
from foundation.events.models import Event
from tests.devices.signing import SigningDevice
from tests.factories import make_device


def kinds() -> list[str]:
    return list(Event.objects.order_by("id").values_list("kind", flat=True))


def silence() -> None:
    """Make all devices offline."""
    Device.objects.update(last_heartbeat_at=timezone.now() - timedelta(hours=1))


def age_offline_events() -> None:
    """Let the time pass in which a device gets no further event."""
    Device.objects.update(offline_noted_at=timezone.now() - timedelta(seconds=LIVENESS_EVENT_SECONDS))


def test_going_offline_and_returning_are_one_event_each(device: SigningDevice, row: Device) -> None:
    device.heartbeat()
    assert (record_offline(), record_online()) == (0, 0)
    silence()
    assert (record_offline(), record_offline(), record_online()) == (1, 0, 0)
    age_offline_events()
    device.heartbeat()
    assert (record_offline(), record_online(), record_online()) == (0, 1, 0)
    assert kinds() == ["device.offline", "device.online"]
    event = Event.objects.latest("id")
    assert (event.actor, event.device_id) == ("scheduler", row.id)
    silence()
    assert record_offline() == 1


def test_a_device_that_flaps_writes_few_events(device: SigningDevice) -> None:
    for _ in range(5):
        device.heartbeat()
        record_online()
        silence()
        record_offline()
    assert kinds() == ["device.offline"]
    age_offline_events()
    assert record_online() == 0
    device.heartbeat()
    assert (record_online(), kinds()) == (1, ["device.offline", "device.online"])


@pytest.mark.parametrize("state", ["pending", "decommissioned"])
def test_only_accepted_devices_go_offline(db: None, state: str) -> None:
    make_device(state=state, last_heartbeat_at=timezone.now() - timedelta(hours=1))
    make_device()
    assert record_offline() == 0


def test_old_samples_are_deleted_in_batches(row: Device, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "BATCH_SIZE", 10)
    settings.HEARTBEAT_KEEP_DAYS = 7
    now = timezone.now()
    HeartbeatSample.objects.bulk_create(
        HeartbeatSample(device=row, at=now - timedelta(days=age), status="idle", metrics={})
        for age in [8] * 25 + [6] * 3
    )
    assert delete_old_samples() == 25
    assert HeartbeatSample.objects.count() == 3
    assert delete_old_samples() == 0
