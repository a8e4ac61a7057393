"""Drift: the release that a device reports to run differs from the one last deployed to it."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from bundles.models import Bundle
from deployments.drift import compare
from deployments.models import Comparison, DeviceDeployment
from devices.models import Device
from foundation.events.models import Event
from tests.factories import make_bundle, make_device, make_device_deployment

pytestmark = pytest.mark.django_db


def report_running(device: Device, *bundles: Bundle, seconds: int = 0) -> None:
    """Have a device report what it runs, `seconds` from now."""
    running: dict[str, Any] = {
        bundle.name: {"version": bundle.version, "manifest_sha256": bundle.manifest_sha256, "healthy": True}
        for bundle in bundles
    }
    at = timezone.now() + timedelta(seconds=seconds)
    Device.objects.filter(pk=device.pk).update(running_bundles=running, running_changed_at=at)


def events() -> list[dict[str, str]]:
    return list(Event.objects.filter(kind="device.differs").order_by("pk").values_list("data", flat=True))


@pytest.fixture
def second(db: None) -> Bundle:
    return make_bundle("vad@2.0.0")


def test_a_device_that_runs_the_deployed_bundle_has_no_mismatch(bundle: Bundle) -> None:
    device = make_device()
    make_device_deployment("succeeded", device=device, bundle=bundle)
    report_running(device, bundle)
    assert compare() == 0
    assert events() == []


def test_a_mismatch_becomes_one_event(bundle: Bundle, second: Bundle) -> None:
    device = make_device()
    make_device_deployment("succeeded", device=device, bundle=second)
    report_running(device, bundle)
    assert compare() == 1
    assert events() == [
        {
            "product": "vad",
            "expected": "vad@2.0.0",
            "reported": "vad@1.0.0",
            "reported_sha256": bundle.manifest_sha256,
        }
    ]
    assert compare() == 0
    # Another product changed; the mismatch is the same.
    report_running(device, bundle, make_bundle("asr@1.0.0"))
    assert compare() == 0
    assert len(events()) == 1
    assert list(Comparison.objects.get(pk=device.pk).differences) == ["vad"]


def test_a_mismatch_that_returns_is_a_new_one(bundle: Bundle, second: Bundle) -> None:
    device = make_device()
    make_device_deployment("succeeded", device=device, bundle=second)
    for reported in (bundle, second, bundle):
        report_running(device, reported)
        compare()
    assert len(events()) == 2


def test_running_nothing_is_a_mismatch(bundle: Bundle) -> None:
    device = make_device()
    make_device_deployment("succeeded", device=device, bundle=bundle)
    report_running(device)
    assert compare() == 1
    assert events()[0]["reported"] == "nothing"


def test_a_device_is_compared_with_its_last_success(bundle: Bundle, second: Bundle) -> None:
    device = make_device()
    make_device_deployment("succeeded", device=device, bundle=bundle)
    make_device_deployment("succeeded", device=device, bundle=second)
    make_device_deployment("failed", device=device, bundle=bundle)
    report_running(device, second)
    assert compare() == 0


def test_a_report_from_before_the_success_is_ignored(bundle: Bundle, second: Bundle) -> None:
    device = make_device()
    report_running(device, bundle, seconds=-5)
    make_device_deployment("succeeded", device=device, bundle=second)
    assert compare() == 0


def test_an_active_device_is_compared_afterwards(bundle: Bundle, second: Bundle) -> None:
    device = make_device()
    make_device_deployment("succeeded", device=device, bundle=bundle)
    device_deployment = make_device_deployment("checking", device=device, bundle=second)
    report_running(device, second)
    assert compare() == 0
    DeviceDeployment.objects.filter(pk=device_deployment.pk).transition_to("timed_out")
    assert compare() == 1
    assert events()[0]["expected"] == "vad@1.0.0"


@pytest.mark.parametrize("running", [{"vad": "1.0.0"}, {"vad": None}, {"vad": {"version": ["x"] * 99}}, {"vad": []}])
def test_malformed_reports_do_not_match(bundle: Bundle, running: dict[str, Any]) -> None:
    device = make_device()
    make_device_deployment("succeeded", device=device, bundle=bundle)
    Device.objects.filter(pk=device.pk).update(running_bundles=running, running_changed_at=timezone.now())
    assert compare() == 1


def test_many_devices_cost_few_statements(
    bundle: Bundle, second: Bundle, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(20):
        device = make_device()
        make_device_deployment("succeeded", device=device, bundle=second)
        report_running(device, bundle)
    with django_assert_num_queries(7):  # begin, devices, successes, comparisons, upsert, events, end
        assert compare() == 20
    with django_assert_num_queries(3):
        assert compare() == 0
