"""Which devices a phase admits, and which it evicts."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from bundles.models import Bundle
from deployments.models import Deployment, DeviceDeployment, Phase
from deployments.offers import offer
from deployments.phases.admission import admit
from deployments.phases.advance import advance
from deployments.phases.control import Resumption, promote_deployment, resume_deployment
from deployments.phases.definition import PhaseDefinition
from deployments.reports import Report, accept_report
from devices.models import Command, Device
from foundation.errors import Conflict
from tests.factories import complete, make_deployment, make_device

pytestmark = pytest.mark.django_db
ALICE = "operator:alice"
CANARY = (PhaseDefinition(percent=10), PhaseDefinition())


def online(count: int) -> list[Device]:
    return [make_device(last_heartbeat_at=timezone.now()) for _ in range(count)]


def rows(deployment: Deployment, **filters: Any) -> list[DeviceDeployment]:
    return list(DeviceDeployment.objects.filter(deployment=deployment, **filters).order_by("rank"))


def report(row: DeviceDeployment, state: str, attempt: int = 1) -> str:
    row.refresh_from_db()
    return accept_report(row.device_id, row.deployment_id, Report(attempt, row.report + 1, state))


def acknowledge(row: DeviceDeployment) -> None:
    Command.objects.open().for_device_deployments([row.pk]).update(acknowledged_at=timezone.now())


def let_time_pass(*late: DeviceDeployment) -> None:
    """Make these offers two hours ago, and open the phases then."""
    past = timezone.now() - timedelta(hours=2)
    Phase.objects.filter(opened_at__isnull=False).update(opened_at=past)
    DeviceDeployment.objects.filter(pk__in=[row.pk for row in late]).update(offered_at=past)


@pytest.fixture
def deployment(bundle: Bundle) -> Deployment:
    """Twenty devices, of which two have an offer in the first phase."""
    deployment = make_deployment(bundle, *online(20), phases=CANARY)
    advance()
    offer()
    return deployment


# Plans that PostgreSQL may choose when its statistics are stale.
PLANS = (
    ("hashagg", "hashjoin", "mergejoin", "sort"),
    ("hashagg", "hashjoin", "mergejoin", "sort", "material", "indexscan", "bitmapscan"),
)


@pytest.mark.parametrize("switched_off", PLANS)
def test_no_plan_admits_more_devices_than_are_missing(bundle: Bundle, switched_off: tuple[str, ...]) -> None:
    deployment = make_deployment(bundle, *online(20), phases=CANARY)
    with connection.cursor() as cursor:
        for node in switched_off:
            cursor.execute(f"SET LOCAL enable_{node} = off")
    assert admit(deployment, deployment.phases.get(number=1), 2) == 2
    first, second = rows(deployment, phase__number=1)
    assert [first.pk, second.pk] == [row.pk for row in rows(deployment)[:2]]


def test_a_device_that_acknowledged_and_does_not_accept_in_time_is_evicted(deployment: Deployment) -> None:
    silent, other = rows(deployment, state="offered")
    acknowledge(silent)
    let_time_pass(silent)
    advance()
    silent.refresh_from_db()
    assert (silent.state, silent.phase, silent.attempt) == ("waiting", None, 2)
    assert silent.pk == rows(deployment)[-1].pk
    admitted = rows(deployment, phase__number=1)
    assert len(admitted) == 2
    assert other.pk in {row.pk for row in admitted}
    assert Phase.objects.get(deployment=deployment, number=1).evicted == 1


def test_an_evicted_device_that_accepts_too_late_is_told(deployment: Deployment) -> None:
    """The agent drops the job after this response. The device gets a new offer in the last phase."""
    silent, other = rows(deployment, state="offered")
    acknowledge(silent)
    let_time_pass(silent)
    advance()
    offer()
    report(other, "succeeded")
    report(next(row for row in rows(deployment, state="offered") if row.pk != silent.pk), "succeeded")
    advance()
    offer()
    with pytest.raises(Conflict) as caught:
        report(silent, "accepted")
    assert caught.value.code == "old_attempt"
    command = Command.objects.open().get(device_id=silent.device_id, kind="deploy")
    assert command.attempt == 2
    assert report(silent, "accepted", attempt=2) == "accepted"


def test_a_device_of_a_passed_phase_that_does_not_accept_is_offered_the_bundle_again(bundle: Bundle) -> None:
    lenient = PhaseDefinition(percent=10, success_threshold_percent=50)
    deployment = make_deployment(bundle, *online(20), phases=(lenient, PhaseDefinition()))
    advance()
    offer()
    good, silent = rows(deployment, state="offered")
    report(good, "succeeded")
    advance()
    assert [phase.state for phase in deployment.phases.all()] == ["passed", "settling"]
    let_time_pass(silent)
    advance()
    silent.refresh_from_db()
    assert (silent.state, silent.attempt) == ("waiting", 2)
    assert silent.phase == deployment.phases.get(number=2)
    offer()
    for row in rows(deployment, state="offered"):
        report(row, "succeeded", row.attempt)
    assert complete() == 1


def test_nobody_is_evicted_when_no_phase_can_admit_the_device_again(bundle: Bundle) -> None:
    phases = (PhaseDefinition(percent=50, success_threshold_percent=50), PhaseDefinition(soak_seconds=600))
    deployment = make_deployment(bundle, *online(4), phases=phases)
    advance()
    offer()
    good, silent = rows(deployment, state="offered")
    report(good, "succeeded")
    advance()
    offer()
    for row in rows(deployment, phase__number=2):
        report(row, "succeeded")
    advance()
    assert [phase.state for phase in deployment.phases.all()] == ["passed", "soaking"]
    let_time_pass(silent)
    advance()
    silent.refresh_from_db()
    assert (silent.state, silent.attempt) == ("offered", 1)


def test_a_place_that_nobody_can_fill_pauses_the_deployment(bundle: Bundle) -> None:
    """Otherwise the phase would wait for ever, and nobody would know."""
    canaries, offline = online(2), [make_device() for _ in range(18)]
    deployment = make_deployment(bundle, *canaries, *offline, phases=CANARY)
    advance()
    offer()
    good, silent = rows(deployment, state="offered")
    report(good, "succeeded")
    Device.objects.filter(pk=silent.device_id).update(last_heartbeat_at=None)
    let_time_pass(silent)
    advance()
    assert [phase.state for phase in deployment.phases.all()] == ["settling", "pending"]
    Phase.objects.filter(state="settling").update(fill_ends_at=timezone.now())
    advance()
    deployment.refresh_from_db()
    assert (deployment.state, deployment.pause_reason) == ("paused", "not_enough_devices")
    resume_deployment(deployment, Resumption(), actor=ALICE)
    assert advance() == 0
    Device.objects.filter(pk=silent.device_id).update(last_heartbeat_at=timezone.now())
    advance()
    assert len(rows(deployment, phase__number=1)) == 2


def test_a_place_that_nobody_can_fill_may_be_given_up(bundle: Bundle) -> None:
    canaries, offline = online(2), [make_device() for _ in range(18)]
    deployment = make_deployment(bundle, *canaries, *offline, phases=CANARY)
    advance()
    offer()
    good, silent = rows(deployment, state="offered")
    report(good, "succeeded")
    Device.objects.filter(pk=silent.device_id).update(last_heartbeat_at=None)
    let_time_pass(silent)
    advance()
    Phase.objects.filter(state="settling").update(fill_ends_at=timezone.now())
    advance()
    resume_deployment(deployment, Resumption(skip_phase=True), actor=ALICE)
    advance()
    assert [phase.state for phase in deployment.phases.all()] == ["skipped", "settling"]


def test_a_late_phase_admits_reachable_devices_before_it_pauses(deployment: Deployment) -> None:
    silent, other = rows(deployment, state="offered")
    report(other, "accepted")
    let_time_pass(silent)
    Phase.objects.filter(state="settling").update(fill_ends_at=timezone.now())
    advance()
    deployment.refresh_from_db()
    assert deployment.state == "running"
    assert len(rows(deployment, phase__number=1)) == 2


def test_the_last_phase_is_not_skipped_because_devices_wait_for_it(bundle: Bundle) -> None:
    """No other phase would admit them, and the deployment would never end."""
    gate = (PhaseDefinition(percent=10, manual_gate=True), PhaseDefinition())
    deployment = make_deployment(bundle, *online(20), phases=gate)
    advance()
    offer()
    for row in rows(deployment, state="offered"):
        report(row, "succeeded")
    advance()
    report(rows(deployment, state="succeeded")[0], "rolled_back")
    promote_deployment(deployment, actor=ALICE)
    advance()
    assert [phase.state for phase in deployment.phases.all()] == ["passed", "tripped"]
    with pytest.raises(Conflict) as caught:
        resume_deployment(deployment, Resumption("go on", skip_phase=True), actor=ALICE)
    assert caught.value.code == "last_phase"
    resume_deployment(deployment, Resumption("go on", accept_failures=True), actor=ALICE)
    advance()
    offer()
    for row in rows(deployment, state="offered"):
        report(row, "succeeded")
    assert complete() == 1
