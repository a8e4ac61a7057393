"""What an unfinished device deployment waits for, in each of its circumstances."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from bundles.models import Bundle
from deployments.models import Deployment, DeviceDeployment, Hold
from deployments.offers import offer
from deployments.phases.advance import advance
from deployments.phases.control import pause_deployment
from deployments.phases.definition import PhaseDefinition
from deployments.waiting import WaitKind, waits_of
from devices.models import Device
from tests.devices.operators import Person
from tests.factories import make_bundle, make_deployment, make_device, make_planning_deployment

pytestmark = pytest.mark.django_db


@pytest.fixture
def online_device(bundle: Bundle) -> Device:
    return make_device(last_heartbeat_at=timezone.now())


def wait(deployment: Deployment) -> tuple[str, str]:
    """Return the kind and the text of what the deployment's only device deployment waits for."""
    (found,) = waits_of(DeviceDeployment.objects.filter(deployment=deployment)).values()
    return found.kind, found.text


def change(deployment: Deployment, **fields: Any) -> None:
    DeviceDeployment.objects.filter(deployment=deployment).update(**fields)


def test_an_offer_comes_next(bundle: Bundle, online_device: Device) -> None:
    assert wait(make_deployment(bundle, online_device)) == (WaitKind.OFFER, "The scheduler offers the bundle next.")


def test_a_hold_comes_first(bundle: Bundle, online_device: Device) -> None:
    deployment = make_deployment(bundle, online_device)
    pause_deployment(deployment, actor="operator:alice")
    assert wait(deployment) == (WaitKind.PAUSE, "The deployment is paused: by an operator.")
    Hold.objects.create(reason="a restore")
    assert wait(deployment)[0] == WaitKind.HOLD


def test_planning(bundle: Bundle, online_device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = make_planning_deployment(bundle, online_device)
    DeviceDeployment.objects.create(deployment=deployment, device=online_device, product="vad")
    assert wait(deployment)[0] == WaitKind.PLANNING


def test_the_start(bundle: Bundle, online_device: Device) -> None:
    start_at = timezone.now() + timedelta(hours=1)
    deployment = make_deployment(bundle, online_device, start_at=start_at)
    (found,) = waits_of(DeviceDeployment.objects.filter(deployment=deployment)).values()
    assert (found.kind, found.until) == (WaitKind.START, start_at)


def test_a_limit(bundle: Bundle, online_device: Device) -> None:
    deployment = make_deployment(bundle, online_device, max_in_flight=5, devices_per_minute=60)
    assert wait(deployment) == (
        WaitKind.LIMIT, "The deployment has a limit: 5 devices at once, 60 offers per minute.",
    )  # fmt: skip


def test_a_cancel(bundle: Bundle, online_device: Device) -> None:
    deployment = make_deployment(bundle, online_device)
    deployment.cancel("operator:alice")
    assert wait(deployment)[0] == WaitKind.CANCEL


def test_a_phase_that_has_not_begun(bundle: Bundle) -> None:
    devices = [make_device(last_heartbeat_at=timezone.now()) for _ in range(2)]
    phases = [PhaseDefinition(count=1), PhaseDefinition()]
    deployment = make_deployment(bundle, *devices, phases=phases, canaries=[devices[0].pk])
    advance()
    rows = DeviceDeployment.objects.filter(deployment=deployment, device=devices[1])
    (found,) = waits_of(rows).values()
    assert (found.kind, found.text) == (WaitKind.PHASE, "Phase 2 has not begun.")


def test_the_pause_before_the_next_attempt(bundle: Bundle, online_device: Device) -> None:
    deployment = make_deployment(bundle, online_device)
    change(deployment, failures=1, retry_at=timezone.now() + timedelta(seconds=119))
    assert wait(deployment)[0] == WaitKind.RETRY
    assert wait(deployment)[1].startswith("Attempt 2 begins in 1 min")


def test_another_deployment_of_the_product(bundle: Bundle, online_device: Device) -> None:
    other = make_deployment(make_bundle("vad@1.0.1", {"model.onnx": b"another model"}), online_device)
    offer()
    deployment = make_deployment(bundle, online_device)
    (found,) = waits_of(DeviceDeployment.objects.filter(deployment=deployment)).values()
    assert (found.kind, found.text, found.deployment) == (
        WaitKind.OTHER_DEPLOYMENT, "vad@1.0.1 comes first.", other.pk,
    )  # fmt: skip


def test_an_offline_device(bundle: Bundle, online_device: Device) -> None:
    deployment = make_deployment(bundle, online_device)
    offer()
    heard_at = timezone.now() - timedelta(minutes=90)
    Device.objects.update(last_heartbeat_at=heard_at)
    (found,) = waits_of(DeviceDeployment.objects.filter(deployment=deployment)).values()
    assert (found.kind, found.text) == (WaitKind.OFFLINE, "The device has been offline for 1 h 30 min.")
    assert (found.since, found.until) == (heard_at, DeviceDeployment.objects.get().deadline_at)
    Device.objects.update(last_heartbeat_at=None)
    assert wait(deployment)[1] == "The device has never sent a heartbeat."


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("offered", WaitKind.ACCEPTANCE), ("accepted", WaitKind.DOWNLOAD), ("installing", WaitKind.INSTALLATION),
        ("checking", WaitKind.CHECK), ("cancelling", WaitKind.CANCELLATION),
    ],
)  # fmt: skip
def test_a_device_at_work(bundle: Bundle, online_device: Device, state: str, kind: WaitKind) -> None:
    deployment = make_deployment(bundle, online_device)
    change(deployment, state=state, deadline_at=timezone.now() + timedelta(hours=1))
    assert wait(deployment)[0] == kind


def test_a_download_has_a_rate_and_a_remaining_time(bundle: Bundle, online_device: Device) -> None:
    deployment = make_deployment(bundle, online_device)
    began = timezone.now() - timedelta(seconds=100)
    change(
        deployment, state="downloading", deadline_at=timezone.now() + timedelta(hours=1),
        bytes_done=50 * 1024**2, bytes_total=100 * 1024**2, reached_at={"downloading": began.isoformat()},
    )  # fmt: skip
    kind, text = wait(deployment)
    assert kind == WaitKind.DOWNLOAD
    assert re.fullmatch(r"Downloads: 50.0 MiB of 100.0 MiB at 51[12]\.\d KiB/s, 1 min 40 s left\.", text)


@pytest.mark.parametrize("state", ["succeeded", "failed", "rolled_back", "rejected", "timed_out", "cancelled"])
def test_after_the_end_it_waits_for_nothing(bundle: Bundle, online_device: Device, state: str) -> None:
    deployment = make_deployment(bundle, online_device)
    change(deployment, state=state, finished_at=timezone.now())
    assert waits_of(DeviceDeployment.objects.filter(deployment=deployment)) == {}


def test_a_page_costs_a_fixed_number_of_statements(
    bundle: Bundle, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    devices = [make_device(last_heartbeat_at=timezone.now()) for _ in range(20)]
    rows = list(DeviceDeployment.objects.filter(deployment=make_deployment(bundle, *devices)))
    # The deployment, the devices, the hold, and the other deployments of the product.
    with django_assert_num_queries(4):
        assert len(waits_of(rows)) == 20


def test_the_api_shows_it(bundle: Bundle, online_device: Device, alice: Person) -> None:
    deployment = make_deployment(bundle, online_device)
    (shown,) = alice.get(f"/deployments/{deployment.pk}/devices").json()["results"]
    assert shown["waiting_for"] == {
        "kind": "offer", "text": "The scheduler offers the bundle next.", "until": None, "since": None,
        "deployment": None,
    }  # fmt: skip
    (shown,) = alice.get(f"/devices/{online_device.pk}/deployments").json()["results"]
    assert shown["waiting_for"]["kind"] == "offer"
