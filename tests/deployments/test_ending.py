"""Ways that end without the device's last word."""

from datetime import timedelta

import pytest
from django.utils import timezone

from bundles.models import Bundle
from deployments import termination
from deployments.models import ACTIVE, FINISHED, UNFINISHED, Deployment, DeviceDeployment, Phase
from deployments.rollout import offer
from deployments.termination import carry_out_cancels, end_decommissioned, end_withdrawn, enforce_deadlines, finish
from devices.models import Command
from foundation.errors import IllegalTransition
from foundation.events.models import Event
from tests.factories import make_deployment, make_device, make_device_deployment

pytestmark = pytest.mark.django_db
ALICE = "operator:alice"


def now_of(way: DeviceDeployment) -> DeviceDeployment:
    return DeviceDeployment.objects.get(pk=way.pk)


def open_kinds(way: DeviceDeployment) -> list[str]:
    return list(Command.objects.open().filter(device_deployment_id=way.pk).values_list("kind", flat=True))


# -- Cancelling


def test_who_waits_is_cancelled_at_once() -> None:
    way = make_device_deployment("waiting")
    way.deployment.cancel(ALICE)
    way = now_of(way)
    assert (way.state, way.reason_code) == ("cancelled", "cancelled")
    assert carry_out_cancels() == 0
    assert not Command.objects.exists()


def test_an_offer_that_nobody_took_is_withdrawn_and_the_cancel_queued() -> None:
    way = make_device_deployment("waiting")
    offer()
    way.deployment.cancel(ALICE)
    assert now_of(way).state == "offered"
    assert carry_out_cancels() == 1
    assert carry_out_cancels() == 0
    assert now_of(way).state == "cancelling"
    assert open_kinds(way) == ["cancel"]
    cancel = Command.objects.get(kind="cancel")
    assert cancel.payload == {"deployment_id": str(way.deployment_id), "attempt": 1}


def test_an_acknowledged_command_is_not_withdrawn() -> None:
    way = make_device_deployment("waiting")
    offer()
    Command.objects.update(acknowledged_at=timezone.now())
    way.deployment.cancel(ALICE)
    carry_out_cancels()
    deploy = Command.objects.get(kind="deploy")
    assert (deploy.withdrawn_at, open_kinds(way)) == (None, ["cancel"])


@pytest.mark.parametrize("state", [state for state in ACTIVE if state != "cancelling"])
def test_every_device_at_work_is_asked_to_stop(state: str) -> None:
    way = make_device_deployment(state)
    deadline_at = way.deadline_at
    way.deployment.cancel(ALICE)
    assert carry_out_cancels() == 1
    way = now_of(way)
    assert (way.state, way.deadline_at) == ("cancelling", deadline_at)
    assert open_kinds(way) == ["cancel"]


@pytest.mark.parametrize("state", FINISHED)
def test_what_has_ended_stays(state: str) -> None:
    way = make_device_deployment(state)
    way.deployment.cancel(ALICE)
    assert carry_out_cancels() == 0
    assert now_of(way).state == state


def test_an_offer_that_slipped_in_is_cancelled_too() -> None:
    """The offer was under way in another transaction while the operator cancelled."""
    way = make_device_deployment("waiting")
    Deployment.objects.filter(pk=way.deployment_id).update(state="cancelled")
    assert carry_out_cancels() == 1
    assert now_of(way).state == "cancelled"


def test_cancelling_twice_is_harmless() -> None:
    way = make_device_deployment("waiting")
    way.deployment.cancel(ALICE)
    cancelled_at = way.deployment.cancelled_at
    way.deployment.cancel("operator:bob")
    assert way.deployment.cancelled_at == cancelled_at
    assert [event.actor for event in Event.objects.filter(kind="deployment.cancelled")] == [ALICE]


def test_a_finished_deployment_is_not_cancelled() -> None:
    way = make_device_deployment("succeeded")
    finish()
    with pytest.raises(IllegalTransition):
        way.deployment.cancel(ALICE)
    assert way.deployment.state == "finished"


# -- Deadlines


def overdue(state: str) -> DeviceDeployment:
    way = make_device_deployment(state)
    DeviceDeployment.objects.filter(pk=way.pk).update(deadline_at=timezone.now() - timedelta(seconds=1))
    return way


@pytest.mark.parametrize(
    ("state", "ends_as", "reason_code"),
    [
        ("offered", "timed_out", "never_accepted"),
        ("accepted", "timed_out", "deadline"),
        ("downloading", "timed_out", "deadline"),
        ("installing", "timed_out", "deadline"),
        ("checking", "timed_out", "deadline"),
        ("cancelling", "cancelled", "cancel_unanswered"),
    ],
)
def test_the_deadline_ends_it(state: str, ends_as: str, reason_code: str) -> None:
    way = overdue(state)
    assert enforce_deadlines() == 1
    assert enforce_deadlines() == 0
    way = now_of(way)
    assert (way.state, way.reason_code) == (ends_as, reason_code)
    assert way.finished_at is not None
    event = Event.objects.get(kind="deployment.device_ended")
    assert (event.actor, event.data["state"]) == ("scheduler", ends_as)


def test_what_nobody_fetched_is_withdrawn_at_the_deadline() -> None:
    way = make_device_deployment("waiting")
    offer()
    DeviceDeployment.objects.update(deadline_at=timezone.now())
    enforce_deadlines()
    assert open_kinds(way) == []


@pytest.mark.parametrize("state", UNFINISHED)
def test_before_the_deadline_nothing_ends(state: str) -> None:
    way = make_device_deployment(state)
    assert enforce_deadlines() == 0
    assert now_of(way).state == state


def test_what_timed_out_makes_room_for_the_next(bundle: Bundle) -> None:
    way = overdue("downloading")
    make_deployment(bundle, way.device)
    assert offer() == 0
    enforce_deadlines()
    assert offer() == 1


# -- Devices and bundles that go


@pytest.mark.parametrize("state", UNFINISHED)
def test_a_decommissioned_device_ends(state: str) -> None:
    way = make_device_deployment(state)
    stays = make_device_deployment(state, device=make_device())
    way.device.decommission(ALICE)
    assert end_decommissioned() == 1
    assert end_decommissioned() == 0
    way = now_of(way)
    assert (way.state, way.reason_code) == ("cancelled", "decommissioned")
    assert now_of(stays).state == state


@pytest.mark.parametrize("state", UNFINISHED)
def test_nobody_waits_for_a_withdrawn_bundle(state: str, bundle: Bundle) -> None:
    way = make_device_deployment(state, bundle=bundle)
    bundle.withdraw(actor=ALICE)
    assert end_withdrawn() == (state == "waiting")
    way = now_of(way)
    assert (way.state, way.reason_code) == (("cancelled", "bundle_withdrawn") if state == "waiting" else (state, ""))


def test_steps_work_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(termination, "BATCH", 2)
    for _ in range(5):
        overdue("accepted")
    assert enforce_deadlines() == 5


# -- Finishing


@pytest.mark.parametrize("state", UNFINISHED)
def test_a_deployment_goes_on_while_one_device_does(bundle: Bundle, state: str) -> None:
    way = make_device_deployment(state, bundle=bundle)
    assert finish() == 0
    assert now_of(way).deployment.state == "running"


def test_it_finishes_when_all_have_ended(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *(make_device() for _ in range(3)))
    ways = list(DeviceDeployment.objects.filter(deployment=deployment))
    offer()
    for way, state in zip(ways, ("succeeded", "succeeded", "failed"), strict=True):
        DeviceDeployment.objects.filter(pk=way.pk).move_to(state)
    assert finish() == 1
    assert finish() == 0
    deployment.refresh_from_db()
    assert (deployment.state, deployment.final_counts) == ("finished", {"succeeded": 2, "failed": 1})
    assert deployment.finished_at is not None
    assert Phase.objects.get().state == "finished"
    event = Event.objects.get(kind="deployment.finished")
    assert event.deployment_id == deployment.pk
    assert event.data == {"counts": {"succeeded": 2, "failed": 1}}
    assert event.message == f"The deployment of {deployment.bundle} has ended: 1 failed, 2 succeeded."


def test_a_cancelled_deployment_stays_cancelled_and_ends() -> None:
    way = make_device_deployment("waiting")
    way.deployment.cancel(ALICE)
    assert finish() == 1
    way.deployment.refresh_from_db()
    assert way.deployment.state == "cancelled"
    assert way.deployment.finished_at is not None
