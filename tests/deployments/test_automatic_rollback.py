"""Deployments with `on_failure: roll_back`: too many failures roll them back, whatever their state."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from bundles.models import Bundle
from deployments import observation
from deployments.models import Deployment, DeviceDeployment, Phase
from deployments.observation import LateFailure
from deployments.offers import offer
from deployments.phases.advance import advance
from deployments.phases.control import pause_deployment
from deployments.phases.definition import PhaseDefinition
from deployments.reports import Report, accept_report
from foundation.events.models import Event
from tests.factories import complete, make_deployment, make_device

pytestmark = pytest.mark.django_db
ALICE = "operator:alice"
GATE = (PhaseDefinition(percent=50, manual_gate=True), PhaseDefinition())


def deploy(bundle: Bundle, devices: int, **fields: Any) -> Deployment:
    """Start a deployment that rolls back, and offer the bundle to the devices of its first phase."""
    reachable = [make_device(last_heartbeat_at=timezone.now()) for _ in range(devices)]
    deployment = make_deployment(bundle, *reachable, on_failure="roll_back", **fields)
    advance()
    offer()
    return deployment


def rows(deployment: Deployment, state: str) -> list[DeviceDeployment]:
    return list(DeviceDeployment.objects.filter(deployment=deployment, state=state).order_by("rank"))


def report(state: str, *reporting: DeviceDeployment) -> None:
    for row in reporting:
        row.refresh_from_db()
        accept_report(row.device_id, row.deployment_id, Report(row.attempt, row.report + 1, state))


def state_of(deployment: Deployment) -> str:
    deployment.refresh_from_db()
    return deployment.state


def test_late_failures_roll_back_a_deployment_that_an_operator_paused(bundle: Bundle) -> None:
    deployment = deploy(bundle, 4)
    first, *others = rows(deployment, "offered")
    report("succeeded", first, *others[:2])
    pause_deployment(deployment, actor=ALICE)
    assert advance() == 0
    report("rolled_back", first)
    assert state_of(deployment) == "rolling_back"
    assert Phase.objects.get(deployment=deployment).state == "tripped"
    assert Deployment.objects.filter(reverts=deployment).count() == 1
    assert not Event.objects.filter(kind="deployment.paused", actor="scheduler").exists()


def test_late_failures_that_the_scheduler_finds_roll_back_a_paused_deployment(bundle: Bundle) -> None:
    deployment = deploy(bundle, 4)
    first, *_ = rows(deployment, "offered")
    report("succeeded", *rows(deployment, "offered")[:3])
    pause_deployment(deployment, actor=ALICE)
    DeviceDeployment.objects.filter(pk=first.pk).update(late_at=timezone.now())
    assert (advance(), advance()) == (1, 0)
    assert state_of(deployment) == "rolling_back"


def test_late_failures_roll_back_a_deployment_at_its_gate(bundle: Bundle) -> None:
    deployment = deploy(bundle, 4, phases=GATE)
    first, second = rows(deployment, "offered")
    report("succeeded", first, second)
    advance()
    assert state_of(deployment) == "paused"
    report("rolled_back", second)
    assert state_of(deployment) == "rolling_back"


def test_late_failures_of_a_tripped_phase_roll_back(bundle: Bundle) -> None:
    deployment = deploy(bundle, 4)
    first, *others = rows(deployment, "offered")
    report("succeeded", first, *others[:2])
    Deployment.objects.filter(pk=deployment.pk).update(on_failure="pause")
    report("rolled_back", first)
    assert state_of(deployment) == "paused"
    Deployment.objects.filter(pk=deployment.pk).update(on_failure="roll_back")
    report("rolled_back", others[0])
    assert state_of(deployment) == "rolling_back"


def test_devices_that_fail_while_the_deployment_is_paused_roll_it_back(bundle: Bundle) -> None:
    deployment = deploy(bundle, 4)
    first, *_ = rows(deployment, "offered")
    report("accepted", first)
    pause_deployment(deployment, actor=ALICE)
    report("failed", first)
    assert state_of(deployment) == "rolling_back"


def test_a_few_failures_do_not_roll_back_a_paused_deployment(bundle: Bundle) -> None:
    deployment = deploy(bundle, 20)
    first, *others = rows(deployment, "offered")
    report("succeeded", first, *others[:15])
    pause_deployment(deployment, actor=ALICE)
    report("rolled_back", first)
    assert (advance(), state_of(deployment)) == (0, "paused")


@pytest.mark.parametrize("on_failure", ["pause", "cancel"])
def test_failures_do_not_change_a_paused_deployment_without_rollback(bundle: Bundle, on_failure: str) -> None:
    deployment = deploy(bundle, 4)
    Deployment.objects.filter(pk=deployment.pk).update(on_failure=on_failure)
    first, *_ = rows(deployment, "offered")
    report("accepted", first)
    pause_deployment(deployment, actor=ALICE)
    report("failed", first)
    assert (advance(), state_of(deployment)) == (0, "paused")


def test_devices_of_a_passed_phase_that_fail_after_the_last_phase_roll_back(bundle: Bundle) -> None:
    lenient = PhaseDefinition(percent=50, success_threshold_percent=50)
    deployment = deploy(bundle, 20, phases=(lenient, PhaseDefinition()))
    offered = rows(deployment, "offered")
    report("accepted", *offered)
    report("succeeded", *offered[:5])
    advance()
    offer()
    report("succeeded", *rows(deployment, "offered"))
    assert complete() == 0
    assert [phase.state for phase in deployment.phases.all()] == ["passed", "passed"]
    report("failed", *offered[5:6])
    assert state_of(deployment) == "running"
    report("failed", *offered[6:])
    assert state_of(deployment) == "rolling_back"


def fail_late(*succeeded: DeviceDeployment) -> None:
    """Let the scheduler find these successes to have failed late."""
    failures = [
        LateFailure(row.pk, row.deployment_id, row.device_id, row.product, "unhealthy", "") for row in succeeded
    ]
    assert observation.fail_late(failures, "scheduler") == len(succeeded)


def test_successes_that_all_fail_late_after_the_end_roll_back(bundle: Bundle) -> None:
    """No success is under observation any more."""
    deployment = deploy(bundle, 3)
    report("succeeded", *rows(deployment, "offered"))
    assert complete() == 1
    fail_late(*rows(deployment, "succeeded"))
    assert advance() == 0
    assert state_of(deployment) == "rolling_back"


def test_late_failures_roll_back_a_deployment_that_ended_while_it_was_paused(bundle: Bundle) -> None:
    deployment = deploy(bundle, 4)
    report("accepted", *rows(deployment, "offered"))
    pause_deployment(deployment, actor=ALICE)
    report("succeeded", *rows(deployment, "accepted"))
    assert complete() == 1
    fail_late(rows(deployment, "succeeded")[0])
    advance()
    assert state_of(deployment) == "rolling_back"


def test_failures_of_long_ago_do_not_roll_back(bundle: Bundle) -> None:
    deployment = deploy(bundle, 3)
    report("succeeded", *rows(deployment, "offered"))
    complete()
    fail_late(*rows(deployment, "succeeded"))
    DeviceDeployment.objects.update(late_at=timezone.now() - timedelta(days=2))
    advance()
    assert state_of(deployment) == "finished"
