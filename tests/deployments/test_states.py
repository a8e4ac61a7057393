"""Every pair of states against a table that was written by hand, and reports against another."""

from typing import Any

import pytest

from deployments.models import (
    ACTIVE_STATES,
    FINAL_STATES,
    UNFINISHED_STATES,
    Deployment,
    DeploymentState,
    DeviceDeployment,
    DeviceDeploymentState,
    Phase,
    PhaseState,
)
from deployments.states import (
    DEPLOYMENT_TRANSITIONS,
    DEVICE_DEPLOYMENT_TRANSITIONS,
    FORMER_PHASE_STATES,
    PHASE_TRANSITIONS,
    REPORTABLE_STATES,
    stages_passed,
    state_after_report,
)
from foundation.errors import IllegalTransition
from foundation.state_machine import UnknownTransition
from tests.factories import make_device_deployment

# Rows: from. Columns: to, in the order below. x: allowed.
ORDER = "skipped waiting offered accepted downloading installing checking cancelling succeeded failed rolled_back rejected timed_out cancelled"  # noqa: E501
ALLOWED = """
skipped      . . . . . . . . . . . . . .
waiting      . . x . . . . . . . . . . x
offered      . x . x x x x x x x x x x x
accepted     . x . . x x x x x x x x x x
downloading  . x . . . x x x x x x x x x
installing   . x . . . . x x x x x x x x
checking     . x . . . . . x x x x x x x
cancelling   . . . . . . . . x x x x . x
succeeded    . . . . . . . . . . . . . .
failed       . . . . . . . . . . . . . .
rolled_back  . . . . . . . . . . . . . .
rejected     . . . . . . . . . . . . . .
timed_out    . . . . . . . . . . . . . .
cancelled    . . . . . . . . . . . . . .
"""
DEPLOYMENT_ORDER = "planning scheduled running paused cancelled finished rolling_back"
DEPLOYMENT_ALLOWED = """
planning      . x x . x x .
scheduled     . . x . x x .
running       . . . x x x x
paused        . . x . x x x
cancelled     . . . . . . x
finished      . . . . . . x
rolling_back  . . . . . x .
"""
PHASE_ORDER = "pending filling settling soaking gate passed tripped skipped"
PHASE_ALLOWED = """
pending   . x . . . . . x
filling   . . x x x x x x
settling  . . . x x x x x
soaking   . . . . x x x x
gate      . . . . . x x x
passed    . . . . . . . .
tripped   . x . . . . . x
skipped   . . . . . . . .
"""
# Rows: the server's state. Columns: what the device reports. The cell: the state after the report.
REPORTED = "accepted downloading installing checking succeeded failed rolled_back rejected cancelled"
AFTER = """
offered      accepted    downloading installing checking   succeeded failed rolled_back rejected cancelled
accepted     accepted    downloading installing checking   succeeded failed rolled_back rejected cancelled
downloading  downloading downloading installing checking   succeeded failed rolled_back rejected cancelled
installing   installing  installing  installing checking   succeeded failed rolled_back rejected cancelled
checking     checking    checking    checking   checking   succeeded failed rolled_back rejected cancelled
cancelling   cancelling  cancelling  cancelling cancelling succeeded failed rolled_back rejected cancelled
succeeded    succeeded   succeeded   succeeded  succeeded  succeeded succeeded succeeded succeeded succeeded
failed       failed      failed      failed     failed     failed failed failed failed failed
rolled_back  rolled_back rolled_back rolled_back rolled_back rolled_back rolled_back rolled_back rolled_back rolled_back
rejected     rejected    rejected    rejected   rejected   rejected rejected rejected rejected rejected
timed_out    timed_out   timed_out   timed_out  timed_out  timed_out timed_out timed_out timed_out timed_out
cancelled    cancelled   cancelled   cancelled  cancelled  cancelled cancelled cancelled cancelled cancelled
"""


def lines(table: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in table.strip().splitlines()}


def pairs(table: str, order: str) -> list[tuple[str, str, bool]]:
    return [
        (source, target, mark == "x")
        for source, marks in lines(table).items()
        for target, mark in zip(order.split(), marks, strict=True)
    ]


PAIRS = pairs(ALLOWED, ORDER)
# A row is created as skipped; none becomes it.
MOVES = [pair for pair in PAIRS if pair[1] != "skipped"]
REPORT_PAIRS = [
    (current, reported, after)
    for current, cells in lines(AFTER).items()
    for reported, after in zip(REPORTED.split(), cells, strict=True)
]


def test_the_tables_name_every_state() -> None:
    states = set(ORDER.split())
    assert states == set(DeviceDeploymentState.values) == set(DEVICE_DEPLOYMENT_TRANSITIONS.targets)
    assert states == {*UNFINISHED_STATES, *FINAL_STATES}
    assert len(PAIRS) == 14 * 14
    assert set(REPORTED.split()) == set(REPORTABLE_STATES)
    assert set(DEPLOYMENT_ORDER.split()) == set(DeploymentState.values) == set(DEPLOYMENT_TRANSITIONS.targets)
    assert set(PHASE_ORDER.split()) == set(PhaseState.values)
    assert set(PHASE_TRANSITIONS.targets) == {*PhaseState.values, *FORMER_PHASE_STATES}


@pytest.mark.parametrize(("source", "target", "allowed"), pairs(DEPLOYMENT_ALLOWED, DEPLOYMENT_ORDER))
def test_the_table_of_deployments_is_the_one_in_the_code(source: str, target: str, allowed: bool) -> None:
    assert DEPLOYMENT_TRANSITIONS.allows(source, target) == allowed


@pytest.mark.parametrize(("source", "target", "allowed"), pairs(PHASE_ALLOWED, PHASE_ORDER))
def test_the_table_of_phases_is_the_one_in_the_code(source: str, target: str, allowed: bool) -> None:
    assert PHASE_TRANSITIONS.allows(source, target) == allowed


@pytest.mark.django_db
@pytest.mark.parametrize(("source", "target", "allowed"), MOVES)
def test_a_device_deployment_moves_only_as_the_table_allows(source: str, target: str, allowed: bool) -> None:
    device_deployment = make_device_deployment(source)
    fields: dict[str, Any] = {"deadline_at": device_deployment.created_at} if target in ACTIVE_STATES else {}
    rows = DeviceDeployment.objects.filter(pk=device_deployment.pk)
    assert rows.transition_to(target, **fields) == allowed
    device_deployment.refresh_from_db()
    assert device_deployment.state == (target if allowed else source)
    assert (device_deployment.finished_at is not None) == (device_deployment.state in FINAL_STATES)


@pytest.mark.django_db
@pytest.mark.parametrize(("source", "target", "allowed"), PAIRS)
def test_a_report_of_an_impossible_state_is_refused(source: str, target: str, allowed: bool) -> None:
    device_deployment = make_device_deployment(source)
    if allowed or source == target:
        assert device_deployment.apply_report(target, deadline_at=device_deployment.created_at)
        assert device_deployment.state == target
    else:
        with pytest.raises(IllegalTransition):
            device_deployment.apply_report(target)
    assert DeviceDeployment.objects.get(pk=device_deployment.pk).state == device_deployment.state


@pytest.mark.parametrize(("current", "reported", "after"), REPORT_PAIRS)
def test_a_report_moves_forward_or_not_at_all(current: str, reported: str, after: str) -> None:
    assert state_after_report(current, reported) == after


def test_skipped_stages_count_as_passed() -> None:
    assert stages_passed("offered", "installing") == ("accepted", "downloading", "installing")
    assert stages_passed("installing", "installing") == ()
    assert stages_passed("offered", "succeeded") == ()
    assert stages_passed("cancelling", "installing") == ()


@pytest.mark.django_db
def test_a_report_on_an_outdated_row_changes_nothing() -> None:
    device_deployment = make_device_deployment("offered")
    outdated = DeviceDeployment.objects.get(pk=device_deployment.pk)
    assert device_deployment.apply_report("accepted", report=1)
    assert not outdated.apply_report("downloading", report=1)
    assert DeviceDeployment.objects.get(pk=device_deployment.pk).state == "accepted"


@pytest.mark.django_db
@pytest.mark.parametrize(("source", "target", "allowed"), pairs(DEPLOYMENT_ALLOWED, DEPLOYMENT_ORDER))
def test_a_deployment_moves_only_as_the_table_allows(source: str, target: str, allowed: bool) -> None:
    deployment = make_device_deployment().deployment
    Deployment.objects.filter(pk=deployment.pk).update(state=source)
    if target == "planning":
        with pytest.raises(UnknownTransition):
            deployment.transition_to(target)
    else:
        assert deployment.transition_to(target) == allowed
    deployment.refresh_from_db()
    assert deployment.state == (target if allowed else source)
    assert (deployment.finished_at is not None) == (allowed and target == "finished")
    assert (deployment.cancelled_at is not None) == (allowed and target == "cancelled")


@pytest.mark.django_db
@pytest.mark.parametrize(("source", "target", "allowed"), pairs(PHASE_ALLOWED, PHASE_ORDER))
def test_a_phase_moves_only_as_the_table_allows(source: str, target: str, allowed: bool) -> None:
    phase = Phase.objects.get(deployment=make_device_deployment().deployment_id)
    Phase.objects.filter(pk=phase.pk).update(state=source)
    if target == "waiting":
        with pytest.raises(UnknownTransition):
            phase.transition_to(target)
    else:
        assert phase.transition_to(target) == allowed
    phase.refresh_from_db()
    assert phase.state == (target if allowed else source)
