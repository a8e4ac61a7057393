"""The health of devices: derived from heartbeats, shown, filtered and recorded."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from devices.models import Device, Health
from devices.models.health import reported_health
from devices.scheduling import HEALTH_EVENT_SECONDS, record_health
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.devices.signing import SigningDevice
from tests.factories import make_device

SHA256 = "a" * 64


def running(**fields: Any) -> dict[str, Any]:
    """Return a heartbeat's `running_bundles` with one bundle."""
    return {"svc": {"version": "1.4.0", "manifest_sha256": SHA256, "healthy": True, **fields}}


@pytest.mark.parametrize(
    ("bundles", "health"),
    [
        ({}, Health.HEALTHY),
        (running(), Health.HEALTHY),
        (running(restarts=0), Health.HEALTHY),
        (running(restarts=1), Health.RESTARTING),
        (running(healthy=False), Health.UNHEALTHY),
        (running(healthy=False, restarts=3), Health.UNHEALTHY),
        (running() | {"other": running(healthy=False)["svc"]}, Health.UNHEALTHY),
    ],
)
def test_the_worst_bundle_decides(bundles: dict[str, Any], health: Health) -> None:
    assert reported_health(bundles) == health


def test_a_heartbeat_stores_the_health_and_when_it_changed(device: SigningDevice, row: Device) -> None:
    device.heartbeat(running_bundles=running())
    row.refresh_from_db()
    assert row.health.value == "healthy"
    first_change = row.health_changed_at
    assert first_change is not None
    device.heartbeat(running_bundles=running(verdict={"latency_ms": 3}))
    row.refresh_from_db()
    assert row.health_changed_at == first_change
    device.heartbeat(running_bundles=running(healthy=False))
    row.refresh_from_db()
    assert row.health.value == "unhealthy"
    assert row.health_changed_at is not None
    assert row.health_changed_at > first_change


def test_numbers_of_a_program_do_not_count_as_a_change_of_what_runs(device: SigningDevice, row: Device) -> None:
    """Otherwise every heartbeat would change an index, and have the scheduler compare the device again."""
    device.heartbeat(running_bundles=running(verdict={"latency_ms": 3}))
    row.refresh_from_db()
    changed_at = row.running_changed_at
    device.heartbeat(running_bundles=running(verdict={"latency_ms": 4}, healthy=False))
    row.refresh_from_db()
    assert row.running_changed_at == changed_at
    assert row.running_bundles["svc"]["verdict"] == {"latency_ms": 4}
    device.heartbeat(running_bundles=running(manifest_sha256="b" * 64))
    row.refresh_from_db()
    assert row.running_changed_at != changed_at


def make_devices() -> None:
    """Create one device for each health, named after it, and further ones whose health is unknown."""
    now = timezone.now()
    for health in ("healthy", "restarting", "unhealthy"):
        make_device(name=health, reported_health=health, last_heartbeat_at=now)
    make_device(name="offline", reported_health="unhealthy", last_heartbeat_at=now - timedelta(days=1))
    make_device(name="silent")
    make_device(name="pending", state="pending")
    make_device(name="gone", state="decommissioned", reported_health="unhealthy", last_heartbeat_at=now)


@pytest.mark.parametrize(
    ("health", "names"),
    [
        ("healthy", {"healthy"}),
        ("restarting", {"restarting"}),
        ("unhealthy", {"unhealthy"}),
        ("unknown", {"offline", "silent", "pending"}),
    ],
)
def test_the_list_of_devices_is_filtered_by_health(alice: Person, health: str, names: set[str]) -> None:
    make_devices()
    results = alice.get(f"/devices?health={health}").json()["results"]
    assert {device["name"] for device in results} == names
    assert {device["health"] for device in results} == {health}


def test_an_unknown_health_is_refused(alice: Person) -> None:
    assert alice.get("/devices?health=ill").status_code == 400


def test_the_status_counts_the_health_of_online_devices(alice: Person) -> None:
    make_devices()
    assert alice.get("/status").json()["health"] == {"healthy": 1, "restarting": 1, "unhealthy": 1}


def health_events() -> list[str]:
    return list(Event.objects.filter(kind__in=HEALTH_KINDS).order_by("id").values_list("kind", flat=True))


HEALTH_KINDS = ["device.healthy", "device.restarting", "device.unhealthy"]


def test_a_change_of_health_is_an_event_with_its_reason(device: SigningDevice, row: Device) -> None:
    device.heartbeat(running_bundles=running())
    assert (record_health(), health_events()) == (1, [])
    device.heartbeat(running_bundles=running(healthy=False))
    assert (record_health(), record_health(), health_events()) == (1, 0, ["device.unhealthy"])
    event = Event.objects.get(kind="device.unhealthy")
    assert "svc 1.4.0 is unhealthy" in event.message
    assert (event.actor, event.device_id, event.data) == (
        "device",
        row.pk,
        {"health": "unhealthy", "previous": "healthy"},
    )


def test_a_device_that_is_unhealthy_from_the_start_is_an_event(device: SigningDevice) -> None:
    device.heartbeat(running_bundles=running(healthy=False))
    assert (record_health(), health_events()) == (1, ["device.unhealthy"])


def test_a_device_that_flaps_writes_few_events(device: SigningDevice, row: Device) -> None:
    device.heartbeat(running_bundles=running(healthy=False))
    record_health()
    for number in range(6):
        device.heartbeat(running_bundles=running(healthy=number % 2 == 0))
        record_health()
    assert health_events() == ["device.unhealthy"]
    Device.objects.filter(pk=row.pk).update(health_noted_at=timezone.now() - timedelta(seconds=HEALTH_EVENT_SECONDS))
    device.heartbeat(running_bundles=running())
    assert (record_health(), health_events()) == (1, ["device.unhealthy", "device.healthy"])


def test_a_decommissioned_device_has_no_health(row: Device) -> None:
    Device.objects.filter(pk=row.pk).update(state="decommissioned", reported_health="unhealthy")
    assert record_health() == 0
    row.refresh_from_db()
    assert row.health == Health.UNKNOWN
