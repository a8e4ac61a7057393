"""What devices say they run, against what was deployed to them last."""

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


def runs(device: Device, *bundles: Bundle, seconds: int = 0) -> None:
    """The device says what it runs, so many seconds from now."""
    running: dict[str, Any] = {
        bundle.name: {"version": bundle.version, "manifest_sha256": bundle.manifest_sha256, "healthy": True}
        for bundle in bundles
    }
    at = timezone.now() + timedelta(seconds=seconds)
    Device.objects.filter(pk=device.pk).update(running_bundles=running, running_changed_at=at)


def differing() -> list[dict[str, str]]:
    return list(Event.objects.filter(kind="device.differs").order_by("pk").values_list("data", flat=True))


@pytest.fixture
def second(db: None) -> Bundle:
    return make_bundle("vad@2.0.0")


def test_what_was_deployed_and_runs_is_no_difference(bundle: Bundle) -> None:
    device = make_device()
    make_device_deployment("succeeded", device=device, bundle=bundle)
    runs(device, bundle)
    assert compare() == 0
    assert differing() == []


def test_a_difference_becomes_an_event_once(bundle: Bundle, second: Bundle) -> None:
    device = make_device()
    make_device_deployment("succeeded", device=device, bundle=second)
    runs(device, bundle)
    assert compare() == 1
    assert differing() == [
        {
            "product": "vad",
            "expected": "vad@2.0.0",
            "reported": "vad@1.0.0",
            "reported_sha256": bundle.manifest_sha256,
        }
    ]
    assert compare() == 0
    # Something else changed; the difference is the same one.
    runs(device, bundle, make_bundle("asr@1.0.0"))
    assert compare() == 0
    assert len(differing()) == 1
    assert list(Comparison.objects.get(pk=device.pk).differences) == ["vad"]


def test_a_difference_that_came_back_is_another(bundle: Bundle, second: Bundle) -> None:
    device = make_device()
    make_device_deployment("succeeded", device=device, bundle=second)
    for reported in (bundle, second, bundle):
        runs(device, reported)
        compare()
    assert len(differing()) == 2


def test_nothing_running_is_a_difference(bundle: Bundle) -> None:
    device = make_device()
    make_device_deployment("succeeded", device=device, bundle=bundle)
    runs(device)
    assert compare() == 1
    assert differing()[0]["reported"] == "nothing"


def test_the_last_success_counts(bundle: Bundle, second: Bundle) -> None:
    device = make_device()
    make_device_deployment("succeeded", device=device, bundle=bundle)
    make_device_deployment("succeeded", device=device, bundle=second)
    make_device_deployment("failed", device=device, bundle=bundle)
    runs(device, second)
    assert compare() == 0


def test_what_was_said_before_the_success_says_nothing_about_it(bundle: Bundle, second: Bundle) -> None:
    device = make_device()
    runs(device, bundle, seconds=-5)
    make_device_deployment("succeeded", device=device, bundle=second)
    assert compare() == 0


def test_a_device_at_work_is_compared_afterwards(bundle: Bundle, second: Bundle) -> None:
    device = make_device()
    make_device_deployment("succeeded", device=device, bundle=bundle)
    way = make_device_deployment("checking", device=device, bundle=second)
    runs(device, second)
    assert compare() == 0
    DeviceDeployment.objects.filter(pk=way.pk).move_to("timed_out")
    assert compare() == 1
    assert differing()[0]["expected"] == "vad@1.0.0"


@pytest.mark.parametrize("running", [{"vad": "1.0.0"}, {"vad": None}, {"vad": {"version": ["x"] * 99}}, {"vad": []}])
def test_odd_words_are_no_match(bundle: Bundle, running: dict[str, Any]) -> None:
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
        runs(device, bundle)
    with django_assert_num_queries(7):  # begin, devices, successes, comparisons, upsert, events, end
        assert compare() == 20
    with django_assert_num_queries(3):
        assert compare() == 0
