"""Limits: how many devices are at work at once, and how fast offers go out."""

from datetime import timedelta

import pytest
from django.utils import timezone

from bundles.models import Bundle
from deployments import limits
from deployments.definition import Definition, start
from deployments.models import Deployment, DeviceDeployment
from deployments.offers import offer
from deployments.planning import plan
from deployments.rollback import roll_back
from devices.models import Command, Device
from foundation.errors import BadRequest
from tests.factories import make_bundle, make_deployment, make_device, make_group

pytestmark = pytest.mark.django_db


def online(count: int, **fields: object) -> list[Device]:
    return [make_device(last_heartbeat_at=timezone.now(), **fields) for _ in range(count)]


def end(deployment: Deployment, count: int) -> None:
    """Let this many of the offered devices succeed."""
    rows = DeviceDeployment.objects.filter(deployment=deployment).in_states("offered")
    DeviceDeployment.objects.filter(pk__in=list(rows.values_list("pk", flat=True)[:count])).transition_to("succeeded")


def test_at_most_so_many_devices_are_at_work(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *online(5), max_in_flight=2)
    assert (offer(), offer()) == (2, 0)
    end(deployment, 1)
    assert (offer(), offer()) == (1, 0)
    end(deployment, 2)
    assert (offer(), offer()) == (2, 0)
    assert Command.objects.count() == 5


def test_devices_are_offered_in_the_order_of_their_rank(bundle: Bundle) -> None:
    devices = online(5)
    deployment = make_deployment(bundle, *devices, max_in_flight=1)
    DeviceDeployment.objects.filter(deployment=deployment).update(rank=10)
    DeviceDeployment.objects.filter(device=devices[3]).update(rank=5)
    offer()
    assert DeviceDeployment.objects.in_states("offered").get().device_id == devices[3].pk


def test_two_per_site(bundle: Bundle) -> None:
    north, south = online(4, tags=["site:north", "red"]), online(1, tags=["site:south", "red"])
    untagged = online(3, tags=["red"])
    deployment = make_deployment(bundle, *north, *south, *untagged, limit_tag="site:", max_in_flight_per_tag=2)
    assert (offer(), offer()) == (6, 0)
    at_work = DeviceDeployment.objects.in_states("offered")
    assert at_work.filter(device__in=north).count() == 2
    end(deployment, 6)
    assert (offer(), offer()) == (2, 0)


def test_a_device_with_several_such_tags_takes_a_place_of_each(bundle: Bundle) -> None:
    both, north, south = (online(1, tags=tags)[0] for tags in (["site:n", "site:s"], ["site:n"], ["site:s"]))
    deployment = make_deployment(bundle, both, north, south, limit_tag="site:", max_in_flight_per_tag=1)
    DeviceDeployment.objects.filter(deployment=deployment).update(rank=10)
    DeviceDeployment.objects.filter(device=both).update(rank=5)
    assert offer() == 1
    assert DeviceDeployment.objects.in_states("offered").get().device_id == both.pk


def test_a_share_of_each_group_stays_available(bundle: Bundle) -> None:
    large, small = make_group("large"), make_group("small")
    devices = [*online(10, group=large), *online(2, group=small)]
    make_deployment(bundle, *devices, min_available_percent=70)
    assert (offer(), offer()) == (4, 0)
    at_work = DeviceDeployment.objects.in_states("offered")
    assert at_work.filter(device__group=large).count() == 3
    assert at_work.filter(device__group=small).count() == 1


def test_devices_at_work_in_other_deployments_are_not_available(bundle: Bundle) -> None:
    devices = online(10)
    make_deployment(make_bundle("asr@1.0.0"), *devices[:4])
    offer()
    make_deployment(bundle, *devices, min_available_percent=50)
    assert offer() == 1


def test_a_fully_available_group_is_still_updated_one_by_one(bundle: Bundle) -> None:
    """Otherwise a small group would never be updated."""
    deployment = make_deployment(bundle, *online(3), min_available_percent=100)
    assert (offer(), offer()) == (1, 0)
    end(deployment, 1)
    assert offer() == 1


def test_offers_per_minute(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = make_deployment(bundle, *online(20), devices_per_minute=6)
    assert (offer(), offer()) == (6, 0)
    deployment.refresh_from_db()
    assert deployment.paced_until is not None
    Deployment.objects.update(paced_until=deployment.paced_until - timedelta(seconds=21))
    assert (offer(), offer()) == (2, 0)
    Deployment.objects.update(paced_until=timezone.now() - timedelta(hours=1))
    assert (offer(), offer()) == (6, 0)


def test_several_limits_hold_together(bundle: Bundle) -> None:
    make_deployment(bundle, *online(9), max_in_flight=5, devices_per_minute=3)
    assert (offer(), offer()) == (3, 0)


def test_other_deployments_are_not_limited(bundle: Bundle) -> None:
    make_deployment(make_bundle("asr@1.0.0"), *online(3), max_in_flight=1)
    make_deployment(bundle, *online(3))
    assert offer() == 4


def test_many_full_tags_do_not_hide_devices_with_places(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH", 3)
    north, south = online(6, tags=["site:north"]), online(1, tags=["site:south"])
    deployment = make_deployment(bundle, *north, *south, limit_tag="site:", max_in_flight_per_tag=1)
    DeviceDeployment.objects.filter(deployment=deployment).update(rank=1)
    DeviceDeployment.objects.filter(device=south[0]).update(rank=2)
    assert (offer(), offer()) == (1, 1)


def test_a_rollback_keeps_to_the_numbers(bundle: Bundle) -> None:
    device = make_device()
    deployment = make_deployment(bundle, device, max_in_flight=1, limit_tag="site:", max_in_flight_per_tag=2)
    rollback = roll_back(deployment, reason="", actor="operator:alice")
    plan()
    assert (rollback.max_in_flight, rollback.limit_tag, rollback.max_in_flight_per_tag) == (1, "site:", 2)


@pytest.mark.parametrize("fields", [{"limit_tag": "site:"}, {"max_in_flight_per_tag": 2}])
def test_a_limit_per_tag_needs_both_fields(bundle: Bundle, fields: dict[str, object]) -> None:
    with pytest.raises(BadRequest) as refused:
        start(Definition(bundle, devices=[make_device().pk], **fields), actor="operator:alice")  # type: ignore[arg-type]
    assert refused.value.code == "bad_limits"


def test_offline_devices_do_not_keep_the_others_waiting(bundle: Bundle) -> None:
    offline, devices = [make_device() for _ in range(2)], online(2)
    deployment = make_deployment(bundle, *offline, *devices, max_in_flight=2)
    DeviceDeployment.objects.filter(device__in=offline).update(rank=-1)
    assert offer() == 2
    at_work = DeviceDeployment.objects.in_states("offered")
    assert {row.device_id for row in at_work} == {device.pk for device in devices}
    end(deployment, 2)
    assert offer() == 2  # they return when they are online again


def test_a_silent_device_gives_its_place_to_one_that_returns(bundle: Bundle) -> None:
    silent, returning = make_device(), make_device()
    deployment = make_deployment(bundle, silent, returning, max_in_flight=1)
    DeviceDeployment.objects.filter(device=silent).update(rank=-1)
    assert offer() == 1
    Device.objects.filter(pk=returning.pk).update(last_heartbeat_at=timezone.now())
    assert offer() == 0
    DeviceDeployment.objects.filter(device=silent).update(offered_at=timezone.now() - timedelta(hours=2))
    assert offer() == 1
    assert DeviceDeployment.objects.in_states("offered").get().device_id == returning.pk
    row = DeviceDeployment.objects.get(device=silent)
    assert (row.state, row.attempt, row.phase) == ("waiting", 2, deployment.phases.get())
    end(deployment, 1)
    assert offer() == 1


def test_a_device_that_was_heard_from_since_its_offer_keeps_its_place(bundle: Bundle) -> None:
    first, second = online(2)
    make_deployment(bundle, first, second, max_in_flight=1)
    assert offer() == 1
    DeviceDeployment.objects.in_states("offered").update(offered_at=timezone.now() - timedelta(hours=2))
    assert offer() == 0
