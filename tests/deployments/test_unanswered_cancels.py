"""A cancel always ends: devices that do not answer are not waited for."""

from datetime import timedelta

import pytest
from django.utils import timezone

from bundles.models import Bundle
from deployments.drift import compare
from deployments.models import Deployment, DeviceDeployment
from deployments.offers import offer
from deployments.planning import plan
from deployments.reports import Report, accept_report
from deployments.rollback import roll_back
from deployments.termination import carry_out_cancels
from devices.models import Command, Device, Group
from foundation.events.models import Event
from tests.factories import complete, make_bundle, make_deployment, make_device, make_group

pytestmark = pytest.mark.django_db
ALICE = "operator:alice"
INTERVAL = 60


@pytest.fixture
def row(bundle: Bundle) -> DeviceDeployment:
    """A device that accepted an offer and went offline."""
    device = make_device(group=make_group(interval_seconds=INTERVAL), last_heartbeat_at=timezone.now())
    deployment = make_deployment(bundle, device)
    offer()
    row = DeviceDeployment.objects.get(deployment=deployment)
    report(row, "accepted")
    Command.objects.update(acknowledged_at=timezone.now())
    return row


def report(row: DeviceDeployment, state: str) -> str:
    row.refresh_from_db()
    return accept_report(row.device_id, row.deployment_id, Report(row.attempt, row.report + 1, state))


def let_pass(row: DeviceDeployment, seconds: float) -> None:
    """Let the cancel and the device's last heartbeat be so long ago."""
    past = timezone.now() - timedelta(seconds=seconds)
    DeviceDeployment.objects.filter(pk=row.pk).update(state_changed_at=past)
    Device.objects.filter(pk=row.device_id).update(last_heartbeat_at=past)


def result_of(row: DeviceDeployment) -> tuple[str, str]:
    row.refresh_from_db()
    return row.state, row.reason_code


def cancel(row: DeviceDeployment) -> None:
    row.deployment.cancel(ALICE)
    assert carry_out_cancels() == 1
    assert result_of(row) == ("cancelling", "")


def runs(row: DeviceDeployment, bundle: Bundle) -> None:
    running = {bundle.name: {"version": bundle.version, "manifest_sha256": bundle.manifest_sha256}}
    now = timezone.now()
    Device.objects.filter(pk=row.device_id).update(
        running_bundles=running, running_changed_at=now, last_heartbeat_at=now
    )


def test_a_silent_device_is_ended_after_two_of_its_intervals(row: DeviceDeployment) -> None:
    cancel(row)
    let_pass(row, 2 * INTERVAL - 2)
    assert carry_out_cancels() == 0
    let_pass(row, 2 * INTERVAL)
    assert (carry_out_cancels(), carry_out_cancels()) == (1, 0)
    assert result_of(row) == ("cancelled", "cancel_unanswered")
    assert not Command.objects.open().exists()
    event = Event.objects.get(kind="deployment.device_ended")
    assert (event.actor, event.data["reason_code"]) == ("scheduler", "cancel_unanswered")
    assert complete() == 1


def test_a_short_interval_still_leaves_ten_seconds(row: DeviceDeployment) -> None:
    Group.objects.update(interval_seconds=1)
    cancel(row)
    let_pass(row, 8)
    assert carry_out_cancels() == 0
    let_pass(row, 10)
    assert carry_out_cancels() == 1


def test_a_device_that_was_never_heard_from_is_ended(row: DeviceDeployment) -> None:
    cancel(row)
    let_pass(row, 2 * INTERVAL)
    Device.objects.update(last_heartbeat_at=None)
    assert carry_out_cancels() == 1


def test_a_device_that_was_silent_before_the_cancel_has_the_same_time_to_answer(row: DeviceDeployment) -> None:
    let_pass(row, 3600)
    cancel(row)
    assert carry_out_cancels() == 0


def test_a_device_that_sends_heartbeats_is_waited_for(row: DeviceDeployment) -> None:
    """It may be past the point of no return, and then its report counts."""
    cancel(row)
    let_pass(row, 3600)
    Device.objects.update(last_heartbeat_at=timezone.now() - timedelta(seconds=INTERVAL))
    assert carry_out_cancels() == 0
    assert report(row, "succeeded") == "succeeded"


def test_a_device_that_returns_finds_no_command_and_its_report_is_only_recorded(row: DeviceDeployment) -> None:
    cancel(row)
    let_pass(row, 2 * INTERVAL)
    carry_out_cancels()
    assert report(row, "succeeded") == "cancelled"
    row.refresh_from_db()
    assert (row.state, row.late_state) == ("cancelled", "succeeded")


def test_a_bundle_that_was_installed_all_the_same_is_drift(bundle: Bundle) -> None:
    device = make_device(last_heartbeat_at=timezone.now())
    before = make_deployment(make_bundle("vad@0.9.0"), device)
    offer()
    report(DeviceDeployment.objects.get(deployment=before), "succeeded")
    row = DeviceDeployment.objects.get(deployment=make_deployment(bundle, device))
    offer()
    report(row, "accepted")
    cancel(row)
    let_pass(row, 2 * INTERVAL)
    carry_out_cancels()
    runs(row, bundle)
    assert compare() == 1
    assert Event.objects.get(kind="device.differs").data["expected"] == "vad@0.9.0"


def test_a_rollback_does_not_wait_for_the_first_deployment_on_a_silent_device(bundle: Bundle) -> None:
    old = make_bundle("vad@0.9.0")
    device = make_device(last_heartbeat_at=timezone.now())
    row = DeviceDeployment.objects.get(deployment=make_deployment(bundle, device))
    runs(row, old)
    offer()
    report(row, "accepted")
    rollback = roll_back(row.deployment, reason="", actor=ALICE)
    carry_out_cancels()
    plan()
    assert offer() == 0
    let_pass(row, 2 * INTERVAL)
    carry_out_cancels()
    assert offer() == 1
    assert result_of(row) == ("cancelled", "cancel_unanswered")
    assert DeviceDeployment.objects.get(deployment=rollback).target == old


def test_a_later_rollback_includes_devices_that_did_not_answer(bundle: Bundle) -> None:
    """They may have installed the bundle all the same."""
    old = make_bundle("vad@0.9.0")
    device = make_device(last_heartbeat_at=timezone.now())
    row = DeviceDeployment.objects.get(deployment=make_deployment(bundle, device))
    runs(row, old)
    offer()
    report(row, "accepted")
    cancel(row)
    let_pass(row, 2 * INTERVAL)
    carry_out_cancels()
    complete()
    runs(row, bundle)
    rollback = roll_back(Deployment.objects.get(pk=row.deployment_id), reason="", actor=ALICE)
    plan()
    assert DeviceDeployment.objects.get(deployment=rollback).state == "waiting"
