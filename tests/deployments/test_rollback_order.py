"""Rollbacks among other deployments of the product, and while devices are at work."""

from datetime import timedelta

import pytest
from django.utils import timezone

from bundles.models import Bundle
from deployments.models import Deployment, DeviceDeployment, Phase
from deployments.offers import offer
from deployments.phases.advance import advance
from deployments.phases.definition import PhaseDefinition
from deployments.planning import plan
from deployments.reports import Report, accept_report
from deployments.rollback import roll_back
from deployments.termination import carry_out_cancels, end_superseded_rollbacks, end_withdrawn
from devices.models import Command, Device
from tests.factories import complete, make_bundle, make_deployment, make_device, make_planning_deployment

pytestmark = pytest.mark.django_db
ALICE = "operator:alice"


@pytest.fixture
def old(db: None) -> Bundle:
    return make_bundle("vad@1.0.0")


@pytest.fixture
def bad(db: None) -> Bundle:
    return make_bundle("vad@2.0.0")


@pytest.fixture
def fixed(db: None) -> Bundle:
    return make_bundle("vad@3.0.0")


@pytest.fixture
def device(old: Bundle) -> Device:
    """A device that runs vad@1.0.0."""
    device = make_device()
    runs(device, old)
    return device


def runs(device: Device, bundle: Bundle) -> None:
    """Let the device's last heartbeat say that it runs a bundle."""
    running = {bundle.name: {"version": bundle.version, "manifest_sha256": bundle.manifest_sha256}}
    Device.objects.filter(pk=device.pk).update(running_bundles=running, last_heartbeat_at=timezone.now())


def row_of(deployment: Deployment) -> DeviceDeployment:
    return DeviceDeployment.objects.get(deployment=deployment)


def report(deployment: Deployment, state: str) -> str:
    row = row_of(deployment)
    return accept_report(row.device_id, deployment.pk, Report(row.attempt, row.report + 1, state))


def result_of(deployment: Deployment) -> tuple[str, str]:
    row = row_of(deployment)
    return row.state, row.reason_code


def deployed(bundle: Bundle, device: Device) -> Deployment:
    """Return a deployment that has succeeded on the device."""
    deployment = make_deployment(bundle, device)
    assert offer() == 1
    report(deployment, "accepted")
    report(deployment, "succeeded")
    runs(device, bundle)
    return deployment


def roll_back_now(deployment: Deployment) -> Deployment:
    rollback = roll_back(Deployment.objects.get(pk=deployment.pk), reason="", actor=ALICE)
    carry_out_cancels()
    plan()
    rollback.refresh_from_db()
    return rollback


def test_a_device_that_is_getting_a_newer_bundle_keeps_it(device: Device, bad: Bundle, fixed: Bundle) -> None:
    first = deployed(bad, device)
    newer = make_deployment(fixed, device)
    offer()
    rollback = roll_back_now(first)
    assert result_of(rollback) == ("waiting", "")
    report(newer, "accepted")
    report(newer, "succeeded")
    assert (end_superseded_rollbacks(), end_superseded_rollbacks()) == (1, 0)
    assert offer() == 0
    assert result_of(rollback) == ("cancelled", "not_running")
    complete()
    complete()
    first.refresh_from_db()
    assert first.finished_at is not None


def test_a_rollback_is_not_offered_before_the_scheduler_has_looked(device: Device, bad: Bundle, fixed: Bundle) -> None:
    first = deployed(bad, device)
    newer = make_deployment(fixed, device)
    offer()
    roll_back_now(first)
    report(newer, "accepted")
    report(newer, "succeeded")
    assert offer() == 0


def test_a_newer_bundle_that_failed_is_no_reason_to_stay(device: Device, bad: Bundle, fixed: Bundle) -> None:
    first = deployed(bad, device)
    newer = make_deployment(fixed, device)
    offer()
    rollback = roll_back_now(first)
    report(newer, "failed")
    assert end_superseded_rollbacks() == 0
    assert offer() == 1
    assert result_of(rollback) == ("offered", "")


def test_a_device_that_installed_a_newer_bundle_since_its_last_heartbeat(
    device: Device, bad: Bundle, fixed: Bundle
) -> None:
    first = deployed(bad, device)
    newer = make_deployment(fixed, device)
    offer()
    report(newer, "accepted")
    report(newer, "succeeded")
    rollback = roll_back_now(first)
    assert result_of(rollback) == ("skipped", "not_running")


def acknowledged(bundle: Bundle, device: Device) -> Deployment:
    """Return a deployment whose command the device has received, without having accepted it yet."""
    deployment = make_deployment(bundle, device)
    offer()
    Command.objects.open().update(acknowledged_at=timezone.now())
    Device.objects.filter(pk=device.pk).update(last_heartbeat_at=timezone.now())
    return deployment


def test_a_device_that_accepts_after_the_rollback_began_returns_as_well(
    device: Device, old: Bundle, bad: Bundle
) -> None:
    first = acknowledged(bad, device)
    rollback = roll_back_now(first)
    assert result_of(rollback) == ("waiting", "")
    report(first, "accepted")
    report(first, "succeeded")
    runs(device, bad)
    assert offer() == 1
    assert row_of(rollback).target == old


def test_a_device_that_accepts_after_a_cancel_can_be_rolled_back_later(
    device: Device, old: Bundle, bad: Bundle
) -> None:
    first = acknowledged(bad, device)
    first.cancel(ALICE)
    carry_out_cancels()
    report(first, "accepted")
    runs(device, bad)
    report(first, "succeeded")
    complete()
    rollback = roll_back_now(first)
    assert row_of(rollback).target == old


def test_a_device_that_cannot_have_received_the_offer_is_not_rolled_back(device: Device, bad: Bundle) -> None:
    """Otherwise the rollback would wait for offline devices that have nothing to return from."""
    first = make_deployment(bad, device)
    offer()
    rollback = roll_back_now(first)
    assert result_of(rollback) == ("skipped", "not_running")


def test_a_rollback_is_planned_after_the_first_deployment_has_stopped(device: Device, bad: Bundle) -> None:
    """Another scheduler may just be offering the bundle to devices that wait."""
    first = make_deployment(bad, device)
    rollback = roll_back(first, reason="", actor=ALICE)
    other = make_planning_deployment(make_bundle("asr@1.0.0"), device)
    plan()
    assert {each.pk: each.state for each in Deployment.objects.exclude(pk=first.pk)} == {
        rollback.pk: "planning",
        other.pk: "running",
    }
    carry_out_cancels()
    plan()
    rollback.refresh_from_db()
    assert rollback.state == "finished"


def test_a_bundle_that_was_withdrawn_a_moment_ago_is_not_offered_again(
    device: Device, old: Bundle, bad: Bundle
) -> None:
    rollback = roll_back_now(deployed(bad, device))
    old.withdraw(actor=ALICE)
    assert offer() == 0
    assert end_withdrawn() == 1
    assert result_of(rollback) == ("cancelled", "bundle_withdrawn")


def test_a_device_whose_report_came_after_its_heartbeat_returns_to_its_last_success(
    old: Bundle, bad: Bundle, fixed: Bundle
) -> None:
    """The heartbeat said already that the bundle runs, so what ran before has to be looked up."""
    device = make_device()
    deployed(old, device)
    first = make_deployment(bad, device)
    offer()
    runs(device, bad)
    report(first, "accepted")
    report(first, "succeeded")
    rollback = roll_back_now(first)
    assert row_of(rollback).target == old


def test_a_device_that_installed_after_it_lost_its_place_returns_as_well(
    device: Device, old: Bundle, bad: Bundle
) -> None:
    """It had acknowledged the command, and its reports did not arrive before it was evicted."""
    others = [make_device(last_heartbeat_at=timezone.now()) for _ in range(3)]
    phases = (PhaseDefinition(percent=50), PhaseDefinition())
    first = make_deployment(bad, device, *others, phases=phases, canaries=[device.pk])
    advance()
    offer()
    Command.objects.open().update(acknowledged_at=timezone.now())
    long_ago = timezone.now() - timedelta(hours=2)
    DeviceDeployment.objects.filter(device=device).update(offered_at=long_ago)
    Phase.objects.filter(opened_at__isnull=False).update(opened_at=long_ago)
    advance()
    assert DeviceDeployment.objects.get(device=device).state == "waiting"
    deployed_before = make_deployment(old, make_device())
    DeviceDeployment.objects.filter(deployment=deployed_before).update(
        device=device, state="succeeded", offered_at=long_ago, finished_at=long_ago
    )
    runs(device, bad)
    rollback = roll_back_now(first)
    assert DeviceDeployment.objects.get(deployment=rollback, device=device).target == old
