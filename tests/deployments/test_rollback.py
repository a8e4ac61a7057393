"""Rolling back: each device returns to what it ran before, and the books balance."""

from typing import Any

import pytest
from django.utils import timezone

from bundles.models import Bundle
from deployments.drift import last_successes
from deployments.models import Deployment, DeviceDeployment
from deployments.offers import offer
from deployments.phases.advance import advance
from deployments.phases.definition import PhaseDefinition
from deployments.planning import plan
from deployments.progress import counts_of, outcome_of
from deployments.reports import Report, accept_report
from deployments.rollback import roll_back
from deployments.termination import carry_out_cancels, end_withdrawn
from devices.models import Command, Device
from foundation.errors import Conflict, IllegalTransition
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.factories import complete, make_bundle, make_deployment, make_device, make_planning_deployment

pytestmark = pytest.mark.django_db
ALICE = "operator:alice"


@pytest.fixture
def old(db: None) -> Bundle:
    return make_bundle("vad@1.0.0")


@pytest.fixture
def new(db: None) -> Bundle:
    return make_bundle("vad@2.0.0")


def runs(device: Device, bundle: Bundle | None, **fields: Any) -> None:
    """Let the device's last heartbeat say that it runs a bundle."""
    running = {}
    if bundle is not None:
        running = {bundle.name: {"version": bundle.version, "manifest_sha256": bundle.manifest_sha256, **fields}}
    Device.objects.filter(pk=device.pk).update(running_bundles=running, last_heartbeat_at=timezone.now())


def devices_running(bundle: Bundle, count: int) -> list[Device]:
    devices = [make_device() for _ in range(count)]
    for device in devices:
        runs(device, bundle)
    return devices


def report(deployment: Deployment, device: Device, state: str, reason_code: str = "") -> None:
    row = DeviceDeployment.objects.get(deployment=deployment, device=device)
    accept_report(device.pk, deployment.pk, Report(row.attempt, row.report + 1, state, reason_code))


def install(deployment: Deployment, device: Device, bundle: Bundle) -> None:
    report(deployment, device, "succeeded")
    runs(device, bundle)


def rows(deployment: Deployment) -> dict[Any, tuple[str, str]]:
    found = DeviceDeployment.objects.filter(deployment=deployment)
    return {row.device_id: (row.state, row.reason_code) for row in found}


def outcome(deployment: Deployment) -> str:
    deployment.refresh_from_db()
    return outcome_of(deployment, counts_of([deployment])[deployment.pk])


def begin_rollback(deployment: Deployment) -> Deployment:
    rollback = roll_back(deployment, reason="", actor=ALICE)
    carry_out_cancels()
    plan()
    rollback.refresh_from_db()
    return rollback


def test_each_device_returns_to_what_it_ran(old: Bundle, new: Bundle) -> None:
    first, second = devices_running(old, 1)[0], devices_running(make_bundle("vad@1.5.0"), 1)[0]
    deployment = make_deployment(new, first, second)
    offer()
    for device in (first, second):
        install(deployment, device, new)
    complete()
    rollback = begin_rollback(deployment)
    assert (rollback.reverts_id, rollback.state, rollback.device_count) == (deployment.pk, "running", 2)
    assert offer() == 2
    targets = {
        command.device_id: command.payload["bundle"]["version"]
        for command in Command.objects.open().filter(kind="deploy")
    }
    assert targets == {first.pk: "1.0.0", second.pk: "1.5.0"}
    assert complete() == 0
    deployment.refresh_from_db()
    assert deployment.state == "rolling_back"
    install(rollback, first, old)
    install(rollback, second, Bundle.objects.get(version="1.5.0"))
    complete()
    complete()
    assert (outcome(rollback), outcome(deployment)) == ("succeeded", "rolled_back")
    assert {str(each[0].target) for each in last_successes([first.pk, second.pk]).values()} == {
        "vad@1.0.0",
        "vad@1.5.0",
    }
    event = Event.objects.get(kind="deployment.rolling_back")
    assert event.data["rollback"] == str(rollback.pk)


def test_devices_in_every_stage(old: Bundle, new: Bundle) -> None:
    waits, works, failed, went_back, gone, fresh, done, late = devices_running(old, 8)
    runs(fresh, None)
    deployment = make_deployment(new, *Device.objects.exclude(pk=waits.pk))
    offer()
    make_deployment(new, waits)
    for device in (works, gone, fresh, done, late):
        report(deployment, device, "accepted")
    for device in (gone, fresh, done, late):
        install(deployment, device, new)
    report(deployment, failed, "failed", "unhealthy")
    runs(went_back, old)
    report(deployment, went_back, "succeeded")
    Device.objects.filter(pk=went_back.pk).update(last_heartbeat_at=timezone.now())
    gone.refresh_from_db()
    gone.decommission(ALICE)
    runs(late, new, healthy=False)
    rollback = begin_rollback(deployment)
    assert rows(rollback) == {
        works.pk: ("waiting", ""),
        went_back.pk: ("skipped", "not_running"),
        gone.pk: ("skipped", "decommissioned"),
        fresh.pk: ("skipped", "nothing_to_return_to"),
        done.pk: ("waiting", ""),
        late.pk: ("waiting", ""),
    }
    assert rows(deployment)[works.pk] == ("cancelling", "")
    # The unhealthy device is the first in rank.
    ranked = DeviceDeployment.objects.filter(deployment=rollback, state="waiting").order_by("rank")
    assert ranked[0].device_id == late.pk
    offer()
    assert rows(rollback)[works.pk] == ("waiting", "")  # its device is still at work
    report(deployment, works, "succeeded")
    offer()
    assert rows(rollback)[works.pk] == ("offered", "")


def test_what_waits_is_never_offered(old: Bundle, new: Bundle) -> None:
    devices = devices_running(old, 3)
    deployment = make_deployment(new, *devices)
    rollback = roll_back(deployment, reason="", actor=ALICE)
    assert offer() == 0
    carry_out_cancels()
    plan()
    for _ in range(2):
        complete()
    assert set(rows(deployment).values()) == {("cancelled", "rolled_back")}
    assert (outcome(rollback), outcome(deployment)) == ("succeeded", "rolled_back")
    assert rows(rollback) == {}


def test_a_withdrawn_bundle_is_rolled_back_all_the_same(old: Bundle, new: Bundle) -> None:
    (device,) = devices_running(old, 1)
    deployment = make_deployment(new, device)
    offer()
    install(deployment, device, new)
    rollback = roll_back(deployment, reason="", actor=ALICE)
    new.withdraw(actor=ALICE)
    plan()
    end_withdrawn()
    assert offer() == 1
    assert rows(rollback) == {device.pk: ("offered", "")}


def test_a_withdrawn_earlier_bundle_is_not_returned_to(old: Bundle, new: Bundle) -> None:
    (device,) = devices_running(old, 1)
    deployment = make_deployment(new, device)
    offer()
    install(deployment, device, new)
    old.withdraw(actor=ALICE)
    rollback = begin_rollback(deployment)
    assert rows(rollback) == {device.pk: ("skipped", "nothing_to_return_to")}
    assert (rollback.state, outcome(rollback)) == ("finished", "incomplete")


def test_a_rollback_comes_before_what_waits_for_the_device(old: Bundle, new: Bundle) -> None:
    (device,) = devices_running(old, 1)
    deployment = make_deployment(new, device)
    offer()
    make_deployment(make_bundle("vad@3.0.0"), device)
    install(deployment, device, new)
    rollback = begin_rollback(deployment)
    offer()
    assert rows(rollback) == {device.pk: ("offered", "")}


def test_rolling_back_twice_is_one_rollback(old: Bundle, new: Bundle) -> None:
    deployment = make_deployment(new, *devices_running(old, 1))
    rollback = roll_back(deployment, reason="", actor=ALICE)
    assert roll_back(Deployment.objects.get(pk=deployment.pk), reason="", actor=ALICE).pk == rollback.pk
    with pytest.raises(Conflict) as caught:
        roll_back(rollback, reason="", actor=ALICE)
    assert caught.value.code == "is_a_rollback"


def test_a_deployment_that_is_being_planned_is_cancelled_instead(old: Bundle, new: Bundle) -> None:
    deployment = make_planning_deployment(new, *devices_running(old, 1))
    with pytest.raises(IllegalTransition):
        roll_back(deployment, reason="", actor=ALICE)


def test_a_trip_rolls_back(old: Bundle, new: Bundle) -> None:
    devices = devices_running(old, 20)
    phases = (PhaseDefinition(percent=10), PhaseDefinition())
    deployment = make_deployment(new, *devices, phases=phases, on_failure="roll_back")
    advance()
    offer()
    good, bad = [
        row.device for row in DeviceDeployment.objects.filter(deployment=deployment, state="offered").order_by("rank")
    ]
    report(deployment, good, "accepted")
    install(deployment, good, new)
    report(deployment, bad, "failed", "unhealthy")
    deployment.refresh_from_db()
    assert deployment.state == "rolling_back"
    rollback = deployment.rollbacks.get()
    carry_out_cancels()
    plan()
    assert rows(rollback) == {good.pk: ("waiting", "")}
    offer()
    install(rollback, good, old)
    for _ in range(2):
        complete()
    assert (outcome(rollback), outcome(deployment)) == ("succeeded", "rolled_back")
    assert set(rows(deployment).values()) == {
        ("succeeded", ""), ("failed", "unhealthy"), ("cancelled", "rolled_back"),
    }  # fmt: skip


def test_late_failures_after_the_end_roll_back(old: Bundle, new: Bundle) -> None:
    devices = devices_running(old, 4)
    deployment = make_deployment(new, *devices, on_failure="roll_back")
    offer()
    for device in devices:
        report(deployment, device, "accepted")
        install(deployment, device, new)
    assert complete() == 1
    report(deployment, devices[0], "rolled_back", "crash_loop")
    advance()
    deployment.refresh_from_db()
    assert deployment.state == "rolling_back"
    plan()
    assert len(rows(deployment.rollbacks.get())) == 4


def test_a_paused_deployment_that_is_watched_is_rolled_back_once(old: Bundle, new: Bundle) -> None:
    deployment = make_deployment(new, *devices_running(old, 4), on_failure="roll_back")
    offer()
    for device in Device.objects.all():
        report(deployment, device, "failed", "unhealthy")
    advance()
    advance()
    assert Deployment.objects.filter(reverts=deployment).count() == 1


def test_operators_roll_back_by_the_api(alice: Person, victor: Person, old: Bundle, new: Bundle) -> None:
    deployment = make_deployment(new, *devices_running(old, 1))
    path = f"/deployments/{deployment.pk}/roll-back"
    assert victor.post(path, {}).status_code == 403
    response = alice.post(path, {"reason": "drops frames"})
    assert response.status_code == 201, response.content
    body = response.json()
    assert (body["reverts"], body["state"], body["note"]) == (str(deployment.pk), "planning", "drops frames")
    assert alice.get(f"/deployments/{deployment.pk}").json()["state"] == "rolling_back"
    assert alice.post(f"/deployments/{body['id']}/roll-back", {}).json()["error"]["code"] == "is_a_rollback"
