"""Successes that fail within their observation time."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from bundles.models import Bundle
from deployments.models import Deployment, DeviceDeployment
from deployments.observation import observe
from deployments.offers import offer
from deployments.progress import counts_of, outcome_of
from devices.models import Device
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.devices.signing import SigningDevice
from tests.factories import complete, make_bundle, make_deployment, make_device_deployment

UNHEALTHY_SECONDS = 60


@pytest.fixture
def row(bundle: Bundle) -> DeviceDeployment:
    """A device deployment that succeeded five minutes ago and is observed for five more. Its deployment has ended."""
    row = make_device_deployment("succeeded", bundle=bundle)
    now = timezone.now()
    DeviceDeployment.objects.filter(pk=row.pk).update(
        finished_at=now - timedelta(minutes=5), observation_ends_at=now + timedelta(minutes=5)
    )
    assert complete() == 1
    row.refresh_from_db()
    return row


def report(row: DeviceDeployment, at: datetime | None = None, **fields: Any) -> None:
    """Store a heartbeat of the row's device. By default it runs the row's bundle and is healthy."""
    bundle = row.deployment.bundle
    running = {"version": bundle.version, "manifest_sha256": bundle.manifest_sha256, "healthy": True, **fields}
    Device.objects.filter(pk=row.device_id).update(
        last_heartbeat_at=at or timezone.now(), running_bundles={row.product: running}
    )


def age_suspicion(row: DeviceDeployment, seconds: float) -> None:
    DeviceDeployment.objects.filter(pk=row.pk).update(suspected_at=timezone.now() - timedelta(seconds=seconds))


def result_of(row: DeviceDeployment) -> tuple[str, str]:
    row.refresh_from_db()
    return row.result, row.late_reason_code


def outcome(row: DeviceDeployment) -> str:
    deployment = Deployment.objects.get(pk=row.deployment_id)
    return outcome_of(deployment, counts_of([deployment])[deployment.pk])


def test_a_healthy_device_stays_succeeded_and_its_observation_ends(row: DeviceDeployment) -> None:
    report(row)
    assert observe() == 0
    DeviceDeployment.objects.filter(pk=row.pk).update(observation_ends_at=timezone.now())
    assert (observe(), observe()) == (1, 0)
    assert result_of(row) == ("succeeded", "")
    assert (row.observation_ends_at, outcome(row)) == (None, "succeeded")


def test_a_device_that_stays_unhealthy_fails_late(row: DeviceDeployment) -> None:
    report(row, healthy=False, message="3 of 5 segments")
    assert observe() == 1
    assert result_of(row) == ("succeeded", "")
    age_suspicion(row, UNHEALTHY_SECONDS - 5)
    assert observe() == 0
    age_suspicion(row, UNHEALTHY_SECONDS + 1)
    assert (observe(), observe()) == (1, 0)
    assert result_of(row) == ("failed_late", "unhealthy")
    assert row.state == "succeeded"
    assert "3 of 5 segments" in row.late_message
    assert outcome(row) == "incomplete"
    event = Event.objects.get(kind="deployment.failed_late")
    assert (event.device_id, event.deployment_id) == (row.device_id, row.deployment_id)
    assert event.data == {"product": row.product, "reason_code": "unhealthy"}


def test_a_device_that_recovers_in_time_stays_succeeded(row: DeviceDeployment) -> None:
    report(row, healthy=False)
    observe()
    report(row)
    assert observe() == 1
    age_suspicion(row, UNHEALTHY_SECONDS + 1)
    assert observe() == 0
    assert (result_of(row), row.suspicion) == (("succeeded", ""), "")


def test_an_unhealthy_device_that_falls_silent_is_not_judged(row: DeviceDeployment) -> None:
    """Only a heartbeat after `unhealthy_seconds` says that the bundle was unhealthy for so long."""
    report(row, healthy=False)
    observe()
    age_suspicion(row, UNHEALTHY_SECONDS + 1)
    report(row, at=timezone.now() - timedelta(seconds=30), healthy=False)
    assert observe() == 0


def test_another_bundle_fails_late_when_a_second_heartbeat_confirms_it(row: DeviceDeployment) -> None:
    report(row, version="0.9.0", manifest_sha256="b" * 64)
    assert (observe(), observe()) == (1, 0)
    assert result_of(row) == ("succeeded", "")
    report(row, version="0.9.0", manifest_sha256="b" * 64)
    assert observe() == 1
    assert result_of(row) == ("failed_late", "other_bundle")
    assert row.late_message == f"The device runs {row.product}@0.9.0."


def test_a_product_that_does_not_run_any_more_fails_late(row: DeviceDeployment) -> None:
    for _ in range(2):
        Device.objects.update(last_heartbeat_at=timezone.now(), running_bundles={})
        observe()
    assert result_of(row) == ("failed_late", "other_bundle")


def test_a_heartbeat_from_before_the_success_says_nothing(row: DeviceDeployment) -> None:
    assert row.finished_at is not None
    report(row, at=row.finished_at - timedelta(seconds=1), version="0.9.0", manifest_sha256="b" * 64)
    assert observe() == 0


def test_nothing_is_judged_after_the_observation(row: DeviceDeployment) -> None:
    DeviceDeployment.objects.filter(pk=row.pk).update(observation_ends_at=timezone.now())
    report(row, healthy=False)
    assert (observe(), observe()) == (1, 0)
    assert (result_of(row), row.observation_ends_at) == (("succeeded", ""), None)


def test_a_device_that_turned_unhealthy_just_before_the_end_is_still_judged(row: DeviceDeployment) -> None:
    report(row, healthy=False)
    observe()
    age_suspicion(row, UNHEALTHY_SECONDS + 1)
    DeviceDeployment.objects.filter(pk=row.pk).update(observation_ends_at=timezone.now() - timedelta(seconds=5))
    report(row, healthy=False)
    assert observe() == 1
    assert result_of(row) == ("failed_late", "unhealthy")


def test_an_observation_always_ends(row: DeviceDeployment) -> None:
    """An unhealthy device that falls silent is not observed for ever."""
    report(row, healthy=False)
    observe()
    ended = timezone.now() - timedelta(seconds=UNHEALTHY_SECONDS + 1)
    DeviceDeployment.objects.filter(pk=row.pk).update(observation_ends_at=ended)
    assert (observe(), observe()) == (1, 0)
    assert (result_of(row), row.observation_ends_at) == (("succeeded", ""), None)


@pytest.fixture
def newer(row: DeviceDeployment) -> DeviceDeployment:
    """A newer deployment of the product that is in progress on the device."""
    deployment = make_deployment(make_bundle(f"{row.product}@2.0.0"), Device.objects.get(pk=row.device_id))
    assert offer() == 1
    return DeviceDeployment.objects.get(deployment=deployment)


@pytest.mark.parametrize("state", ["succeeded", "timed_out", "cancelled"])
def test_a_newer_deployment_ends_the_observation(row: DeviceDeployment, newer: DeviceDeployment, state: str) -> None:
    DeviceDeployment.objects.filter(pk=newer.pk).transition_to(state)
    for _ in range(2):
        report(row, version="2.0.0", manifest_sha256="c" * 64)
        observe()
    assert (result_of(row), row.observation_ends_at) == (("succeeded", ""), None)


def test_nothing_is_concluded_while_a_newer_deployment_is_in_progress(
    row: DeviceDeployment, newer: DeviceDeployment
) -> None:
    for _ in range(2):
        report(row, version="2.0.0", manifest_sha256="c" * 64)
        assert observe() == 0
    assert row.observation_ends_at is not None


def test_the_observation_continues_after_a_newer_deployment_was_rolled_back(
    row: DeviceDeployment, newer: DeviceDeployment
) -> None:
    DeviceDeployment.objects.filter(pk=newer.pk).transition_to("rolled_back")
    report(row, healthy=False)
    observe()
    age_suspicion(row, UNHEALTHY_SECONDS + 1)
    observe()
    assert result_of(row) == ("failed_late", "unhealthy")


def test_a_decommissioned_device_is_not_observed(row: DeviceDeployment) -> None:
    Device.objects.filter(pk=row.device_id).update(state="decommissioned")
    report(row, healthy=False)
    assert observe() == 1
    assert (result_of(row), row.observation_ends_at) == (("succeeded", ""), None)


@pytest.fixture
def deployment(device: SigningDevice, bundle: Bundle) -> Deployment:
    """A deployment that is offered to the signing device."""
    deployment = make_deployment(bundle, Device.objects.get(pk=device.id), observation_seconds=600)
    assert offer() == 1
    return deployment


def send(device: SigningDevice, deployment: Deployment, number: int, state: str, **fields: Any) -> Any:
    body = {"attempt": 1, "report": number, "state": state, **fields}
    return device.call("POST", f"/deployments/{deployment.pk}/result", body)


def test_a_success_begins_the_observation(device: SigningDevice, deployment: Deployment, alice: Person) -> None:
    send(device, deployment, 1, "succeeded")
    row = DeviceDeployment.objects.get()
    assert row.finished_at is not None
    assert row.observation_ends_at is not None
    assert abs((row.observation_ends_at - row.finished_at).total_seconds() - 600) < 5
    complete()
    shown = alice.get(f"/deployments/{deployment.pk}").json()
    assert (shown["outcome"], shown["observing"], shown["counts"]["failed_late"]) == ("succeeded", 1, 0)


@pytest.mark.parametrize("state", ["rolled_back", "failed"])
def test_a_device_that_reports_failure_after_its_success_fails_late(
    device: SigningDevice, deployment: Deployment, alice: Person, state: str
) -> None:
    send(device, deployment, 1, "succeeded")
    complete()
    answer = send(device, deployment, 2, state, reason_code="crash_loop", message="exit code 1")
    assert (answer.status_code, answer.json()) == (200, {"state": "succeeded"})
    assert send(device, deployment, 2, state, reason_code="crash_loop").status_code == 200
    shown = alice.get(f"/deployments/{deployment.pk}").json()
    assert (shown["state"], shown["outcome"], shown["observing"]) == ("finished", "incomplete", 0)
    assert (shown["counts"]["succeeded"], shown["counts"]["failed_late"]) == (0, 1)
    (row,) = alice.get(f"/deployments/{deployment.pk}/devices?state=failed_late").json()["results"]
    assert (row["state"], row["late_state"]) == ("succeeded", state)
    assert (row["late_outcome"]["reason_code"], row["late_outcome"]["message"]) == ("crash_loop", "exit code 1")
    assert alice.get(f"/deployments/{deployment.pk}/devices?state=succeeded").json()["results"] == []
    assert Event.objects.filter(kind="deployment.failed_late").count() == 1


def test_no_observation_if_its_time_is_zero(device: SigningDevice, bundle: Bundle) -> None:
    deployment = make_deployment(bundle, Device.objects.get(pk=device.id), observation_seconds=0)
    offer()
    send(device, deployment, 1, "succeeded")
    assert DeviceDeployment.objects.get().observation_ends_at is None


def test_a_late_failure_before_the_deployment_has_finished_counts_once(
    device: SigningDevice, deployment: Deployment
) -> None:
    send(device, deployment, 1, "succeeded")
    send(device, deployment, 2, "rolled_back")
    deployment.refresh_from_db()
    assert counts_of([deployment])[deployment.pk] == {"succeeded": 0, "failed_late": 1}
    complete()
    deployment.refresh_from_db()
    assert counts_of([deployment])[deployment.pk] == {"succeeded": 0, "failed_late": 1}
