"""Precedence: which of several deployments of a product a device gets, and how older ones are superseded."""

from datetime import timedelta

import pytest
from django.utils import timezone

from bundles.models import Bundle
from deployments.models import Deployment, DeploymentState, DeviceDeployment
from deployments.offers import offer
from deployments.planning import plan
from deployments.precedence import supersede
from deployments.progress import counts_of, outcome_of
from deployments.rollback import roll_back
from deployments.termination import carry_out_cancels
from devices.models import Command, Device
from foundation.events.models import Event
from tests.factories import complete, make_bundle, make_deployment, make_device, make_planning_deployment

pytestmark = pytest.mark.django_db


@pytest.fixture
def fixed(bundle: Bundle) -> Bundle:
    return make_bundle("vad@1.0.1", {"model.onnx": b"a better model"})


def state_of(deployment: Deployment, device: Device) -> tuple[str, str]:
    row = DeviceDeployment.objects.get(deployment=deployment, device=device)
    return row.state, row.reason_code


def move(deployment: Deployment, device: Device, state: str) -> None:
    DeviceDeployment.objects.filter(deployment=deployment, device=device).transition_to(state)


def test_a_newer_deployment_supersedes_waiting_and_offered_devices(bundle: Bundle, fixed: Bundle) -> None:
    waiting, offered, accepted, other = (make_device() for _ in range(4))
    make_deployment(make_bundle("asr@1.0.0"), waiting)
    older = make_deployment(bundle, waiting, offered, accepted, other)
    offer()
    DeviceDeployment.objects.filter(deployment=older, device=waiting).withdraw_unacknowledged_offers()
    Command.objects.filter(device=accepted).update(acknowledged_at=timezone.now())
    move(older, accepted, "accepted")
    newer = make_deployment(fixed, waiting, offered, accepted)
    assert supersede() == 2
    assert state_of(older, waiting) == state_of(older, offered) == ("cancelled", "superseded")
    assert state_of(older, accepted)[0] == "accepted"
    assert state_of(older, other)[0] == "offered"
    older.refresh_from_db()
    assert older.superseded == 2
    assert Event.objects.get(kind="deployment.superseded").data["devices"] == 2
    assert offer() == 2
    assert state_of(newer, accepted)[0] == "waiting"
    assert supersede() == 0


def test_an_acknowledged_offer_is_not_superseded(bundle: Bundle, fixed: Bundle) -> None:
    device = make_device()
    older = make_deployment(bundle, device)
    offer()
    Command.objects.update(acknowledged_at=timezone.now())
    make_deployment(fixed, device)
    assert supersede() == 0
    assert state_of(older, device)[0] == "offered"


def test_a_superseded_deployment_ends_with_that_outcome(bundle: Bundle, fixed: Bundle) -> None:
    done, waiting = make_device(), make_device()
    older = make_deployment(bundle, done, waiting)
    offer()
    move(older, done, "succeeded")
    make_deployment(fixed, waiting)
    supersede()
    complete()
    older.refresh_from_db()
    assert older.state == DeploymentState.FINISHED
    assert outcome_of(older, counts_of([older])[older.pk]) == "superseded"


def test_failures_outweigh_superseding(bundle: Bundle, fixed: Bundle) -> None:
    failed, waiting = make_device(), make_device()
    older = make_deployment(bundle, failed, waiting)
    offer()
    move(older, failed, "failed")
    make_deployment(fixed, waiting)
    supersede()
    complete()
    older.refresh_from_db()
    assert outcome_of(older, counts_of([older])[older.pk]) == "incomplete"


@pytest.mark.parametrize(("priority", "superseded"), [(50, 1), (51, 1), (49, 0)])
def test_a_deployment_of_lower_priority_waits(bundle: Bundle, fixed: Bundle, priority: int, superseded: int) -> None:
    device = make_device()
    older = make_deployment(bundle, device)
    newer = make_deployment(fixed, device, priority=priority)
    assert supersede() == superseded
    assert offer() == 1
    assert state_of(newer if superseded else older, device)[0] == "offered"


def test_after_a_newer_deployment_has_succeeded_no_older_one_runs(bundle: Bundle, fixed: Bundle) -> None:
    """Even an older one of higher priority that comes back late, such as a paused one that is resumed."""
    device = make_device()
    older = make_deployment(bundle, device, priority=90)
    Deployment.objects.filter(pk=older.pk).transition_to("paused")
    newer = make_deployment(fixed, device)
    offer()
    move(newer, device, "succeeded")
    Deployment.objects.filter(pk=older.pk).transition_to("running")
    assert offer() == 0
    assert state_of(older, device)[0] == "waiting"
    assert supersede() == 1
    assert state_of(older, device) == ("cancelled", "superseded")


def test_an_older_deployment_runs_after_a_newer_one_has_failed_late(bundle: Bundle, fixed: Bundle) -> None:
    device = make_device()
    older = make_deployment(bundle, device, priority=90)
    Deployment.objects.filter(pk=older.pk).transition_to("paused")
    newer = make_deployment(fixed, device)
    offer()
    move(newer, device, "succeeded")
    DeviceDeployment.objects.filter(deployment=newer).update(late_at=timezone.now())
    Deployment.objects.filter(pk=older.pk).transition_to("running")
    assert supersede() == 0
    assert offer() == 1


def test_a_deployment_that_is_being_planned_supersedes_nothing(bundle: Bundle, fixed: Bundle) -> None:
    device = make_device()
    older = make_deployment(bundle, device)
    make_planning_deployment(fixed, device)
    assert supersede() == 0
    assert offer() == 1
    assert state_of(older, device)[0] == "offered"


def test_a_cancelled_deployment_supersedes_nothing(bundle: Bundle, fixed: Bundle) -> None:
    device = make_device()
    make_deployment(bundle, device)
    make_deployment(fixed, device).cancel("operator:alice")
    assert supersede() == 0


def test_deployments_of_different_products_do_not_supersede_each_other(bundle: Bundle) -> None:
    device = make_device()
    make_deployment(bundle, device)
    make_deployment(make_bundle("asr@1.0.0"), device)
    assert supersede() == 0


@pytest.fixture
def bad(bundle: Bundle, fixed: Bundle) -> Deployment:
    """A deployment of vad@1.0.1 to one device, which ran vad@1.0.0 before and runs the new bundle now."""
    device = make_device()
    deployment = make_deployment(fixed, device)
    offer()
    move(deployment, device, "succeeded")
    DeviceDeployment.objects.filter(deployment=deployment).update(previous_manifest_sha256=bundle.manifest_sha256)
    running = {"vad": {"version": fixed.version, "manifest_sha256": fixed.manifest_sha256}}
    Device.objects.filter(pk=device.pk).update(running_bundles=running, last_heartbeat_at=timezone.now())
    return deployment


def test_a_rollback_supersedes_an_older_deployment_of_higher_priority(bundle: Bundle, bad: Deployment) -> None:
    device = Device.objects.get()
    oldest = make_deployment(make_bundle("vad@0.9.0", {"model.onnx": b"an old model"}), device, priority=100)
    Deployment.objects.filter(pk=oldest.pk).update(created_at=bad.created_at - timedelta(hours=1))
    DeviceDeployment.objects.filter(deployment=oldest).update(created_at=bad.created_at - timedelta(hours=1))
    rollback = roll_back(bad, reason="", actor="operator:alice")
    plan()
    assert supersede() == 1
    assert state_of(oldest, device) == ("cancelled", "superseded")
    assert offer() == 1
    assert state_of(rollback, device)[0] == "offered"


def test_a_fix_that_was_started_after_the_deployment_supersedes_its_rollback(bundle: Bundle, bad: Deployment) -> None:
    device = Device.objects.get()
    fix = make_deployment(make_bundle("vad@1.0.2", {"model.onnx": b"the best model"}), device, priority=10)
    rollback = roll_back(bad, reason="", actor="operator:alice")
    plan()
    assert supersede() == 1
    assert state_of(rollback, device) == ("cancelled", "superseded")
    assert offer() == 1
    assert state_of(fix, device)[0] == "offered"


def test_superseding_and_cancelling_at_once_end_each_device_once(bundle: Bundle, fixed: Bundle) -> None:
    device = make_device()
    older = make_deployment(bundle, device)
    offer()
    make_deployment(fixed, device)
    older.cancel("operator:alice")
    assert supersede() == 0
    carry_out_cancels()
    assert state_of(older, device)[0] in ("cancelling", "cancelled")
