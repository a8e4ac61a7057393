"""Each state of a device deployment against each other, by tables written by hand."""

import pytest

from deployments.models import DeviceDeployment
from deployments.states import (
    ACTIVE,
    FINISHED,
    MOVES,
    REPORTED,
    UNFINISHED,
    DeviceDeploymentState,
    after_report,
    passed,
)
from foundation.errors import IllegalTransition
from tests.factories import make_device_deployment

# Rows: from. Columns: to, in the order below. x: allowed.
ORDER = "waiting offered accepted downloading installing checking cancelling succeeded failed rolled_back rejected timed_out cancelled"  # noqa: E501
ALLOWED = """
waiting      . x . . . . . . . . . . x
offered      . . x x x x x x x x x x x
accepted     . . . x x x x x x x x x x
downloading  . . . . x x x x x x x x x
installing   . . . . . x x x x x x x x
checking     . . . . . . x x x x x x x
cancelling   . . . . . . . x x x x . x
succeeded    . . . . . . . . . . . . .
failed       . . . . . . . . . . . . .
rolled_back  . . . . . . . . . . . . .
rejected     . . . . . . . . . . . . .
timed_out    . . . . . . . . . . . . .
cancelled    . . . . . . . . . . . . .
"""
# Rows: the server's state. Columns: what the device says. The cell: the state after it.
SAID = "accepted downloading installing checking succeeded failed rolled_back rejected cancelled"
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


MOVE_PAIRS = [
    (source, target, mark == "x")
    for source, marks in lines(ALLOWED).items()
    for target, mark in zip(ORDER.split(), marks, strict=True)
]
SAID_PAIRS = [
    (current, said, after)
    for current, cells in lines(AFTER).items()
    for said, after in zip(SAID.split(), cells, strict=True)
]


def test_the_tables_name_every_state() -> None:
    assert set(ORDER.split()) == set(DeviceDeploymentState.values) == set(MOVES) == {*UNFINISHED, *FINISHED}
    assert len(MOVE_PAIRS) == 13 * 13
    assert set(SAID.split()) == set(REPORTED)


@pytest.mark.django_db
@pytest.mark.parametrize(("source", "target", "allowed"), MOVE_PAIRS)
def test_a_row_moves_only_as_the_table_allows(source: str, target: str, allowed: bool) -> None:
    way = make_device_deployment(source)
    fields = {"deadline_at": way.created_at} if target in ACTIVE else {}
    assert DeviceDeployment.objects.filter(pk=way.pk).move_to(target, **fields) == allowed
    way.refresh_from_db()
    assert way.state == (target if allowed else source)
    assert (way.finished_at is not None) == (way.state in FINISHED)


@pytest.mark.django_db
@pytest.mark.parametrize(("source", "target", "allowed"), MOVE_PAIRS)
def test_a_report_that_may_not_move_a_row_is_refused(source: str, target: str, allowed: bool) -> None:
    way = make_device_deployment(source)
    if allowed or source == target:
        assert way.advance(target, deadline_at=way.created_at)
        assert way.state == target
    else:
        with pytest.raises(IllegalTransition):
            way.advance(target)
    assert DeviceDeployment.objects.get(pk=way.pk).state == way.state


@pytest.mark.parametrize(("current", "said", "after"), SAID_PAIRS)
def test_a_report_moves_forward_or_not_at_all(current: str, said: str, after: str) -> None:
    assert after_report(current, said) == after


def test_skipped_steps_count_as_passed() -> None:
    assert passed("offered", "installing") == ("accepted", "downloading", "installing")
    assert passed("installing", "installing") == ()
    assert passed("offered", "succeeded") == ()
    assert passed("cancelling", "installing") == ()


@pytest.mark.django_db
def test_whoever_saw_an_older_row_changes_nothing() -> None:
    way = make_device_deployment("offered")
    late = DeviceDeployment.objects.get(pk=way.pk)
    assert way.advance("accepted", report=1)
    assert not late.advance("downloading", report=1)
    assert DeviceDeployment.objects.get(pk=way.pk).state == "accepted"
