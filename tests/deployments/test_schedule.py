"""`start_at` and `expires_at`: nothing is offered before the one or after the other, and every deployment ends."""

from datetime import timedelta

import pytest
from django.utils import timezone

from bundles.models import Bundle
from deployments.definition import Definition, start
from deployments.models import Deployment, DeploymentState, DeviceDeployment
from deployments.offers import offer
from deployments.phases.definition import PhaseDefinition
from deployments.phases.survey import counts_of_phases
from deployments.progress import counts_of, outcome_of
from deployments.reports import Report, accept_report
from deployments.schedule import expire, start_scheduled
from devices.models import Command, Device
from foundation.errors import BadRequest
from foundation.events.models import Event
from tests.factories import complete, make_deployment, make_device

pytestmark = pytest.mark.django_db


def later(**duration: float) -> object:
    return timezone.now() + timedelta(**duration)


def let_time_pass(deployment: Deployment, name: str) -> None:
    """Move a time of the deployment into the past."""
    Deployment.objects.filter(pk=deployment.pk).update(**{name: timezone.now() - timedelta(seconds=1)})


def reload(deployment: Deployment) -> Deployment:
    deployment.refresh_from_db()
    return deployment


def outcome(deployment: Deployment) -> str:
    return outcome_of(reload(deployment), counts_of([deployment])[deployment.pk])


def reasons(deployment: Deployment) -> list[tuple[str, str]]:
    rows = DeviceDeployment.objects.filter(deployment=deployment).order_by("state")
    return list(rows.values_list("state", "reason_code"))


def test_nothing_is_offered_before_the_start(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, make_device(), start_at=later(hours=1))
    assert deployment.state == DeploymentState.SCHEDULED
    assert (start_scheduled(), offer(), complete()) == (0, 0, 0)
    let_time_pass(deployment, "start_at")
    assert (start_scheduled(), start_scheduled()) == (1, 0)
    assert reload(deployment).state == DeploymentState.RUNNING
    assert offer() == 1
    assert Event.objects.filter(kind="deployment.began").count() == 1


def test_phases_begin_at_the_start(bundle: Bundle) -> None:
    devices = [make_device(last_heartbeat_at=timezone.now()) for _ in range(2)]
    phases = [PhaseDefinition(count=1), PhaseDefinition()]
    deployment = make_deployment(bundle, *devices, phases=phases, start_at=later(hours=1))
    assert [phase.state for phase in deployment.phases.order_by("number")] == ["pending", "pending"]
    let_time_pass(deployment, "start_at")
    start_scheduled()
    complete()
    assert offer() == 1


def test_a_start_in_the_past_is_at_once(bundle: Bundle) -> None:
    assert make_deployment(bundle, make_device(), start_at=later(hours=-1)).state == DeploymentState.RUNNING


def test_a_scheduled_deployment_can_be_cancelled(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, make_device(), start_at=later(hours=1))
    deployment.cancel("operator:alice")
    let_time_pass(deployment, "start_at")
    assert start_scheduled() == 0
    assert reload(deployment).state == DeploymentState.CANCELLED


def test_a_scheduled_deployment_may_expire_without_a_start(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, make_device(), start_at=later(hours=1), expires_at=later(hours=2))
    let_time_pass(deployment, "expires_at")
    assert expire() == 1
    assert complete() == 1
    assert outcome(deployment) == "expired"


def test_after_the_end_only_devices_that_have_accepted_finish(bundle: Bundle) -> None:
    waiting, offered, accepted = (make_device() for _ in range(3))
    deployment = make_deployment(bundle, waiting, offered, accepted, expires_at=later(hours=1))
    assert expire() == 0
    offer()
    DeviceDeployment.objects.filter(device=waiting).withdraw_unacknowledged_offers()
    accept_report(accepted.pk, deployment.pk, Report(1, 1, "accepted"))
    let_time_pass(deployment, "expires_at")
    assert expire() == 2
    assert reasons(deployment) == [("accepted", ""), ("cancelled", "expired"), ("cancelled", "expired")]
    assert not Command.objects.open().filter(device__in=[waiting, offered]).exists()
    assert (expire(), complete(), outcome(deployment)) == (0, 0, "")
    accept_report(accepted.pk, deployment.pk, Report(1, 2, "succeeded"))
    assert complete() == 1
    assert outcome(deployment) == "expired"
    counts = counts_of_phases(deployment.phases.all())[deployment.phases.get().pk]
    assert (counts.good, counts.lost, counts.neutral) == (1, 2, 0)
    assert Event.objects.get(kind="deployment.expired").data["devices"] == 2


def test_a_deployment_without_devices_left_at_its_end_succeeds(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, make_device(), expires_at=later(hours=1))
    offer()
    accept_report(Device.objects.get().pk, deployment.pk, Report(1, 1, "succeeded"))
    let_time_pass(deployment, "expires_at")
    assert (expire(), complete(), outcome(deployment)) == (0, 1, "succeeded")


@pytest.mark.parametrize("state", ["running", "paused"])
def test_every_deployment_comes_to_an_end(bundle: Bundle, state: str) -> None:
    devices = [make_device() for _ in range(3)]
    phases = [PhaseDefinition(count=1, manual_gate=True), PhaseDefinition()]
    deployment = make_deployment(bundle, *devices, phases=phases, expires_at=later(hours=1))
    if state == "paused":
        Deployment.objects.filter(pk=deployment.pk).transition_to("paused", pause_reason="operator")
    let_time_pass(deployment, "expires_at")
    assert expire() == 3
    for _ in range(3):
        complete()
    assert outcome(deployment) == "expired"
    assert {phase.state for phase in deployment.phases.all()} <= {"passed", "skipped", "tripped"}


@pytest.mark.parametrize(
    ("start_at", "expires_at"), [(None, -1), (2, 1), (2, 2)]
)  # fmt: skip
def test_a_deployment_that_expires_before_it_starts_is_refused(
    bundle: Bundle, start_at: int | None, expires_at: int
) -> None:
    now = timezone.now()
    begins_at = None if start_at is None else now + timedelta(hours=start_at)
    definition = Definition(
        bundle, devices=[make_device().pk], start_at=begins_at, expires_at=now + timedelta(hours=expires_at)
    )
    with pytest.raises(BadRequest) as refused:
        start(definition, actor="operator:alice")
    assert refused.value.code == "bad_times"
