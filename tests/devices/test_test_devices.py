"""Test devices: outside of the fleet's statistics, and canaries of deployments that ask for it."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from deployments.definition import MAX_DEVICES, Definition, start
from deployments.models import DeviceDeployment
from deployments.planning import plan
from devices.models import Device
from foundation.errors import BadRequest
from foundation.events.models import Event
from operations.monitoring import metrics
from tests.devices.operators import Person
from tests.factories import make_bundle, make_device, make_device_deployment, make_group

pytestmark = pytest.mark.django_db


def make_fleet(**fields: Any) -> None:
    """Create a healthy, an unhealthy and an offline device, and two that are pending or decommissioned."""
    now = timezone.now()
    for health in ("healthy", "unhealthy"):
        make_device(last_heartbeat_at=now, reported_health=health, **fields)
    make_device(last_heartbeat_at=now - timedelta(days=1), **fields)
    make_device(state="pending", **fields)
    make_device(state="decommissioned", **fields)


def test_an_operator_marks_a_test_device(alice: Person, victor: Person) -> None:
    path = f"/devices/{make_device().pk}"
    assert victor.get(path).json()["test"] is False
    assert alice.call("PATCH", path, {"test": True}).json()["test"] is True
    assert Event.objects.get(kind="device.edited").data == {"is_test": "True"}
    assert victor.call("PATCH", path, {"test": False}).status_code == 403
    assert [device["test"] for device in victor.get("/devices?q=test+%3D+true").json()["results"]] == [True]
    assert alice.call("PATCH", path, {"test": False}).json()["test"] is False


def test_the_statistics_leave_out_test_devices(victor: Person) -> None:
    make_fleet()
    before, figures = victor.get("/status").json(), metrics.count()
    make_fleet(is_test=True)
    assert victor.get("/status").json() == before
    assert before["devices"] == {"online": 2, "offline": 1, "pending": 1, "decommissioned": 1}
    assert [figure.values for figure in metrics.count()[:2]] == [figure.values for figure in figures[:2]]


def test_the_metrics_leave_out_failures_of_test_devices() -> None:
    def failures() -> list[float]:
        figures = {figure.name: figure.values[""] for figure in metrics.count() if not figure.label}
        return [figures["device_deployments_failed"], figures["device_deployments_failed_late"]]

    for is_test, expected in [(True, [0, 0]), (False, [2, 1])]:
        make_device_deployment("failed", device=make_device(is_test=is_test))
        late = make_device_deployment("succeeded", device=make_device(is_test=is_test))
        DeviceDeployment.objects.filter(pk=late.pk).update(late_at=timezone.now())
        assert failures() == expected


def test_the_start_page_links_to_the_devices_that_it_counts(db: None) -> None:
    make_fleet()
    make_fleet(is_test=True)
    boss = Client()
    boss.force_login(User.objects.create_superuser("boss", "boss@example.com", "correct horse battery"))
    tiles = [tile for tile in boss.get("/admin/").context["tiles"] if "/device/" in tile["url"]]
    assert [tile["count"] for tile in tiles] == [2, 1, 1, 0, 1]
    for tile in tiles:
        assert boss.get(tile["url"]).context["cl"].result_count == tile["count"], tile["name"]


def test_selected_test_devices_are_canaries() -> None:
    bench, shelf = make_group("bench"), make_group("shelf")
    selected = make_device(group=bench, is_test=True)
    canary = make_device(group=bench)
    other = make_device(group=bench)
    not_selected = make_device(group=shelf, is_test=True)
    make_device(group=bench, is_test=True, state="pending")
    definition = Definition(make_bundle(), ["bench"], canaries=[canary.pk], test_canaries=True)
    start(definition, actor="operator:alice")
    plan()
    ranks = dict(DeviceDeployment.objects.filter(state="waiting").values_list("device", "rank"))
    assert {device for device, rank in ranks.items() if rank < 0} == {selected.pk, canary.pk}
    assert other.pk in ranks
    assert not_selected.pk not in ranks


def test_too_many_test_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_DEVICES == 10_000
    monkeypatch.setattr("deployments.definition.MAX_DEVICES", 2)
    Device.objects.bulk_create(
        Device(public_key=f"{number:043}", group=make_group(), state="accepted", is_test=True) for number in range(3)
    )
    with pytest.raises(BadRequest) as caught:
        start(Definition(make_bundle(), ["lab"], test_canaries=True), actor="operator:alice")
    assert caught.value.code == "too_many_devices"
