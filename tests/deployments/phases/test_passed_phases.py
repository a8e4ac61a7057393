"""Devices of a passed phase that are still at work when all phases have passed."""

from typing import Any

import pytest
from django.utils import timezone

from bundles.models import Bundle
from deployments.models import Deployment, DeviceDeployment
from deployments.offers import offer
from deployments.phases.advance import advance
from deployments.phases.control import Resumption, resume_deployment
from deployments.phases.definition import PhaseDefinition
from deployments.reports import Report, accept_report
from foundation.errors import Conflict
from tests.factories import complete, make_deployment, make_device

pytestmark = pytest.mark.django_db
ALICE = "operator:alice"
PHASES = (PhaseDefinition(percent=50, success_threshold_percent=40), PhaseDefinition())


def rows(deployment: Deployment, state: str) -> list[DeviceDeployment]:
    return list(DeviceDeployment.objects.filter(deployment=deployment, state=state).order_by("rank"))


def report(state: str, *reporting: DeviceDeployment) -> None:
    for row in reporting:
        row.refresh_from_db()
        accept_report(row.device_id, row.deployment_id, Report(row.attempt, row.report + 1, state))


def passed(bundle: Bundle, **fields: Any) -> Deployment:
    """Return a deployment whose two phases have passed. Six devices of the first phase are still at work."""
    devices = [make_device(last_heartbeat_at=timezone.now()) for _ in range(20)]
    deployment = make_deployment(bundle, *devices, phases=PHASES, **fields)
    advance()
    offer()
    report("accepted", *rows(deployment, "offered"))
    report("succeeded", *rows(deployment, "accepted")[:4])
    advance()
    offer()
    report("succeeded", *rows(deployment, "offered"))
    assert complete() == 0
    assert [phase.state for phase in deployment.phases.all()] == ["passed", "passed"]
    return deployment


def state_of(deployment: Deployment) -> tuple[str, str]:
    deployment.refresh_from_db()
    return deployment.state, deployment.pause_reason


def test_their_failures_pause_the_deployment(bundle: Bundle) -> None:
    deployment = passed(bundle)
    report("failed", *rows(deployment, "accepted")[:2])
    assert state_of(deployment) == ("paused", "error_threshold")
    with pytest.raises(Conflict) as caught:
        resume_deployment(deployment, Resumption(), actor=ALICE)
    assert caught.value.code == "decision_required"


def test_their_failures_cancel_the_deployment(bundle: Bundle) -> None:
    deployment = passed(bundle, on_failure="cancel")
    report("failed", *rows(deployment, "accepted")[:2])
    assert state_of(deployment)[0] == "cancelled"
    assert deployment.reason_code == "error_threshold"


@pytest.mark.parametrize(
    "decision", [Resumption("known", accept_failures=True), Resumption("known", error_threshold_percent=50)]
)
def test_an_operator_lets_the_others_continue(bundle: Bundle, decision: Resumption) -> None:
    deployment = passed(bundle)
    report("failed", *rows(deployment, "accepted")[:2])
    resume_deployment(deployment, decision, actor=ALICE)
    advance()
    assert state_of(deployment) == ("running", "")
    report("succeeded", *rows(deployment, "accepted"))
    assert complete() == 1


def test_there_is_nothing_to_pause_after_the_last_device(bundle: Bundle) -> None:
    deployment = passed(bundle)
    first, *others = rows(deployment, "accepted")
    report("failed", first)
    report("succeeded", *others[:-1])
    report("failed", others[-1])
    assert state_of(deployment)[0] == "running"
    assert complete() == 1
