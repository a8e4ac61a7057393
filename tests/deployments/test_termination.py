"""Device deployments that end without a final report: cancelled, overdue, decommissioned, withdrawn."""

from datetime import timedelta

import pytest
from django.utils import timezone

from bundles.models import Bundle
from deployments import termination
from deployments.models import (
    ACTIVE_STATES,
    FINAL_STATES,
    UNFINISHED_STATES,
    Deployment,
    DeviceDeployment,
    Phase,
)
from deployments.offers import offer
from deployments.termination import carry_out_cancels, end_decommissioned, end_withdrawn, enforce_deadlines
from devices.models import Command
from foundation.errors import IllegalTransition
from foundation.events.models import Event
from tests.factories import complete, make_deployment, make_device, make_device_deployment, make_planning_deployment

pytestmark = pytest.mark.django_db
ALICE = "operator:alice"


def reload(device_deployment: DeviceDeployment) -> DeviceDeployment:
    return DeviceDeployment.objects.get(pk=device_deployment.pk)


def open_kinds(device_deployment: DeviceDeployment) -> list[str]:
    commands = Command.objects.open().filter(device_deployment_id=device_deployment.pk)
    return list(commands.values_list("kind", flat=True))


def make_overdue(state: str) -> DeviceDeployment:
    device_deployment = make_device_deployment(state)
    an_hour_ago = timezone.now() - timedelta(hours=1)
    DeviceDeployment.objects.filter(pk=device_deployment.pk).update(deadline_at=an_hour_ago)
    return device_deployment


def test_a_cancel_records_the_decision_and_leaves_the_rest_to_the_scheduler() -> None:
    device_deployment = make_device_deployment("waiting")
    device_deployment.deployment.cancel(ALICE)
    assert device_deployment.deployment.state == "cancelled"
    assert device_deployment.deployment.cancelled_at is not None
    assert reload(device_deployment).state == "waiting"
    assert offer() == 0


def test_a_cancel_ends_waiting_device_deployments() -> None:
    device_deployment = make_device_deployment("waiting")
    device_deployment.deployment.cancel(ALICE)
    assert carry_out_cancels() == 1
    assert carry_out_cancels() == 0
    device_deployment = reload(device_deployment)
    assert (device_deployment.state, device_deployment.reason_code) == ("cancelled", "cancelled")
    assert not Command.objects.exists()
    assert not Event.objects.filter(kind="deployment.device_ended").exists()


def test_a_cancel_withdraws_an_unacknowledged_offer_and_queues_a_command() -> None:
    device_deployment = make_device_deployment("waiting")
    offer()
    device_deployment.deployment.cancel(ALICE)
    assert reload(device_deployment).state == "offered"
    assert carry_out_cancels() == 1
    assert carry_out_cancels() == 0
    assert reload(device_deployment).state == "cancelling"
    assert open_kinds(device_deployment) == ["cancel"]
    cancel = Command.objects.get(kind="cancel")
    assert cancel.payload == {"deployment_id": str(device_deployment.deployment_id), "attempt": 1}


def test_a_cancel_does_not_withdraw_an_acknowledged_command() -> None:
    device_deployment = make_device_deployment("waiting")
    offer()
    Command.objects.update(acknowledged_at=timezone.now())
    device_deployment.deployment.cancel(ALICE)
    carry_out_cancels()
    deploy = Command.objects.get(kind="deploy")
    assert (deploy.withdrawn_at, open_kinds(device_deployment)) == (None, ["cancel"])


@pytest.mark.parametrize("state", [state for state in ACTIVE_STATES if state != "cancelling"])
def test_a_cancel_asks_every_active_device_to_stop(state: str) -> None:
    device_deployment = make_device_deployment(state)
    deadline_at = device_deployment.deadline_at
    device_deployment.deployment.cancel(ALICE)
    assert carry_out_cancels() == 1
    device_deployment = reload(device_deployment)
    assert (device_deployment.state, device_deployment.deadline_at) == ("cancelling", deadline_at)
    assert open_kinds(device_deployment) == ["cancel"]


@pytest.mark.parametrize("state", FINAL_STATES)
def test_a_cancel_does_not_change_ended_device_deployments(state: str) -> None:
    device_deployment = make_device_deployment(state)
    device_deployment.deployment.cancel(ALICE)
    assert carry_out_cancels() == 0
    assert reload(device_deployment).state == state


def test_cancelling_is_idempotent() -> None:
    device_deployment = make_device_deployment("waiting")
    device_deployment.deployment.cancel(ALICE)
    cancelled_at = device_deployment.deployment.cancelled_at
    device_deployment.deployment.cancel("operator:bob")
    assert device_deployment.deployment.cancelled_at == cancelled_at
    assert [event.actor for event in Event.objects.filter(kind="deployment.cancelled")] == [ALICE]


def test_a_finished_deployment_cannot_be_cancelled() -> None:
    device_deployment = make_device_deployment("succeeded")
    complete()
    with pytest.raises(IllegalTransition):
        device_deployment.deployment.cancel(ALICE)
    assert device_deployment.deployment.state == "finished"


def test_cancels_of_several_deployments_are_carried_out_together() -> None:
    cancelled = [make_device_deployment("waiting", device=make_device()) for _ in range(3)]
    other = make_device_deployment("waiting", device=make_device())
    for device_deployment in cancelled:
        device_deployment.deployment.cancel(ALICE)
    assert carry_out_cancels() == 3
    assert reload(other).state == "waiting"


@pytest.mark.parametrize(
    ("state", "final_state", "reason_code"),
    [
        ("offered", "timed_out", "never_accepted"),
        ("accepted", "timed_out", "deadline"),
        ("downloading", "timed_out", "deadline"),
        ("installing", "timed_out", "deadline"),
        ("checking", "timed_out", "deadline"),
        ("cancelling", "cancelled", "cancel_unanswered"),
    ],
)
def test_an_overdue_device_deployment_ends(state: str, final_state: str, reason_code: str) -> None:
    device_deployment = make_overdue(state)
    assert enforce_deadlines() == 1
    assert enforce_deadlines() == 0
    device_deployment = reload(device_deployment)
    assert (device_deployment.state, device_deployment.reason_code) == (final_state, reason_code)
    assert device_deployment.finished_at is not None
    event = Event.objects.get(kind="deployment.device_ended")
    assert (event.actor, event.data["state"]) == ("scheduler", final_state)


def test_an_unacknowledged_command_is_withdrawn_at_the_deadline() -> None:
    device_deployment = make_device_deployment("waiting")
    offer()
    DeviceDeployment.objects.update(deadline_at=timezone.now())
    enforce_deadlines()
    assert open_kinds(device_deployment) == []


@pytest.mark.parametrize("state", UNFINISHED_STATES)
def test_nothing_ends_before_the_deadline(state: str) -> None:
    device_deployment = make_device_deployment(state)
    assert enforce_deadlines() == 0
    assert reload(device_deployment).state == state


def test_the_next_deployment_is_offered_after_a_timeout(bundle: Bundle) -> None:
    device_deployment = make_overdue("downloading")
    make_deployment(bundle, device_deployment.device)
    assert offer() == 0
    enforce_deadlines()
    assert offer() == 1


@pytest.mark.parametrize("state", UNFINISHED_STATES)
def test_decommissioning_a_device_ends_its_deployment(state: str) -> None:
    device_deployment = make_device_deployment(state)
    other = make_device_deployment(state, device=make_device())
    device_deployment.device.decommission(ALICE)
    assert end_decommissioned() == 1
    assert end_decommissioned() == 0
    device_deployment = reload(device_deployment)
    assert (device_deployment.state, device_deployment.reason_code) == ("cancelled", "decommissioned")
    assert reload(other).state == state


@pytest.mark.parametrize("state", UNFINISHED_STATES)
def test_withdrawing_a_bundle_ends_only_waiting_device_deployments(state: str, bundle: Bundle) -> None:
    device_deployment = make_device_deployment(state, bundle=bundle)
    bundle.withdraw(actor=ALICE)
    assert end_withdrawn() == (state == "waiting")
    device_deployment = reload(device_deployment)
    expected = ("cancelled", "bundle_withdrawn") if state == "waiting" else (state, "")
    assert (device_deployment.state, device_deployment.reason_code) == expected


def test_tasks_continue_until_no_batch_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(termination, "BATCH", 2)
    for _ in range(5):
        make_overdue("accepted")
    assert enforce_deadlines() == 5


@pytest.mark.parametrize("state", UNFINISHED_STATES)
def test_a_deployment_runs_while_a_device_deployment_is_unfinished(bundle: Bundle, state: str) -> None:
    device_deployment = make_device_deployment(state, bundle=bundle)
    assert complete() == 0
    assert reload(device_deployment).deployment.state == "running"


def test_a_deployment_that_is_planned_does_not_finish(bundle: Bundle) -> None:
    deployment = make_planning_deployment(bundle, make_device())
    assert complete() == 0
    deployment.refresh_from_db()
    assert (deployment.state, deployment.finished_at) == ("planning", None)


def test_a_deployment_finishes_when_all_have_ended(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *(make_device() for _ in range(3)))
    device_deployments = list(DeviceDeployment.objects.filter(deployment=deployment))
    offer()
    for device_deployment, state in zip(device_deployments, ("succeeded", "succeeded", "failed"), strict=True):
        device_deployment.transition_to(state)
    assert complete() == 1
    assert complete() == 0
    deployment.refresh_from_db()
    assert (deployment.state, deployment.final_counts) == ("finished", {"succeeded": 2, "failed": 1})
    assert deployment.finished_at is not None
    assert Phase.objects.get().state == "tripped"
    event = Event.objects.get(kind="deployment.finished")
    assert event.deployment_id == deployment.pk
    assert event.data == {"counts": {"succeeded": 2, "failed": 1}}
    assert event.message == f"The deployment of {deployment.bundle} has ended: 1 failed, 2 succeeded."


def test_a_cancelled_deployment_stays_cancelled_when_all_have_ended() -> None:
    deployment = make_device_deployment("waiting").deployment
    deployment.cancel(ALICE)
    assert complete() == 0
    carry_out_cancels()
    assert complete() == 1
    deployment = Deployment.objects.get(pk=deployment.pk)
    assert (deployment.state, deployment.final_counts) == ("cancelled", {"cancelled": 1})
    assert deployment.finished_at is not None
