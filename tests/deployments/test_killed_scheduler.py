"""The next scheduler gets the same result after one was killed at work: planning, cancelling, or rolling back."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from bundles.models import Bundle
from deployments import planning, termination
from deployments.definition import Definition, start
from deployments.models import Deployment, DeviceDeployment, Phase, Selection
from deployments.planning import plan
from deployments.rollback import roll_back
from deployments.termination import carry_out_cancels
from devices.models import Command, Device
from foundation.events.models import Event
from tests.factories import complete, make_bundle, make_device

ALICE = "operator:alice"


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it, so PostgreSQL rolls back the open transaction."""


def kill_at(statement: int, *, after: bool) -> Any:
    """Return a context in which this session ends before or after its given statement."""
    executed = 0

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal executed
        executed += 1
        if executed == statement and not after:
            raise Killed
        result = execute(sql, params, many, context)
        if executed == statement:
            raise Killed
        return result

    return connection.execute_wrapper(wrapper)


def run_scheduler() -> None:
    for _ in range(3):
        plan()
        carry_out_cancels()
        complete()


def statements_of(function: Callable[[], object]) -> int:
    """Call a function. Return how many statements it executed in this session."""
    executed: list[str] = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        executed.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper):
        function()
    return len(executed)


def outcome() -> Any:
    """All that planning and cancelling leave behind."""
    return (
        list(Deployment.objects.order_by("created_at").values_list("state", "reason_code", "skipped", "final_counts")),
        list(Phase.objects.order_by("pk").values_list("state", "device_count")),
        sorted(DeviceDeployment.objects.values_list("device_id", "state", "reason_code")),
        sorted(Command.objects.filter(withdrawn_at=None).values_list("device_id", "kind")),
        sorted(Event.objects.exclude(kind__startswith="device.").values_list("kind", "message")),
    )


def prepare(scenario: str, devices: list[Device]) -> None:
    """Put the database into the state that a scenario starts from."""
    for model in (Event, Command, DeviceDeployment, Selection, Phase):
        model.objects.all().delete()
    Deployment.objects.exclude(reverts=None).delete()
    Deployment.objects.all().delete()
    definition = Definition(
        Bundle.objects.get(version="1.0.0"), groups=["lab"], devices=[device.pk for device in devices[:2]]
    )
    deployment = start(definition, actor=ALICE)
    if scenario == "roll back":
        plan()
        install_on(list(DeviceDeployment.objects.order_by("device_id")[:4]))
        roll_back(deployment, reason="", actor=ALICE)
    if scenario == "cancel":
        plan()
        active = list(DeviceDeployment.objects.order_by("device_id").values_list("pk", flat=True)[:4])
        now = timezone.now()
        offered = DeviceDeployment.objects.filter(pk__in=active)
        offered.transition_to("offered", offered_at=now, deadline_at=now + timedelta(hours=1))
        deployment.cancel(ALICE)


def install_on(rows: list[DeviceDeployment]) -> None:
    """Let these devices succeed. They ran an earlier bundle before."""
    now = timezone.now()
    earlier = Bundle.objects.get(version="0.9.0").manifest_sha256
    succeeded = DeviceDeployment.objects.filter(pk__in=[row.pk for row in rows])
    succeeded.transition_to("offered", offered_at=now, deadline_at=now + timedelta(hours=1))
    succeeded.transition_to("succeeded", previous_manifest_sha256=earlier)


@pytest.fixture
def fleet(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    make_bundle("vad@0.9.0")
    monkeypatch.setattr(planning, "BATCH", 4)
    monkeypatch.setattr(termination, "BATCH", 3)
    return [*(make_device() for _ in range(8)), make_device(state="pending")]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("scenario", ["plan", "cancel", "roll back"])
@pytest.mark.parametrize("after", [False, pytest.param(True, marks=pytest.mark.long)], ids=["before", "after"])
def test_a_scheduler_killed_at_any_statement_leaves_the_same_result(
    fleet: list[Device], scenario: str, after: bool
) -> None:
    prepare(scenario, fleet)
    total = statements_of(run_scheduler)
    expected = outcome()
    assert total > 20
    for statement in range(1, total + 1):
        prepare(scenario, fleet)
        with pytest.raises(Killed), kill_at(statement, after=after):
            run_scheduler()
        run_scheduler()
        assert outcome() == expected, f"killed at statement {statement} of {total}"
