"""Decisions about many devices at once, which the scheduler carries out."""

from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from devices import scheduling
from devices.models import BulkDecision, Command, Decision, Device
from devices.scheduling import carry_out_bulk_decisions
from foundation.errors import IllegalTransition
from foundation.events.models import Event
from tests.devices.payloads import deploy_payload
from tests.factories import make_device

ACTOR = "operator:alice"


@pytest.fixture(autouse=True)
def small_batches(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduling, "DECISION_BATCH_SIZE", 10)


def make_fleet(count: int, state: str = "accepted") -> list[Device]:
    return [make_device(state=state, name=f"{state}-{number}") for number in range(count)]


def record(decision: Decision = Decision.DECOMMISSION) -> BulkDecision:
    return BulkDecision.record(decision, Device.objects.all(), ACTOR)


def states() -> Counter[str]:
    return Counter(Device.objects.values_list("state", flat=True))


def test_recording_changes_no_device(django_assert_max_num_queries: Callable[[int], Any]) -> None:
    make_fleet(25)
    with django_assert_max_num_queries(5):
        bulk_decision = record()
    assert states() == {"accepted": 25}
    assert (bulk_decision.state, bulk_decision.total, bulk_decision.processed) == ("running", 25, 0)
    assert Event.objects.get().kind == "device.bulk_decision"


def test_the_scheduler_carries_it_out() -> None:
    devices = make_fleet(25)
    Command.objects.queue(devices[3].pk, deploy_payload())
    bulk_decision = record()
    assert carry_out_bulk_decisions() == 25
    assert states() == {"decommissioned": 25}
    bulk_decision.refresh_from_db()
    assert (bulk_decision.state, bulk_decision.processed, bulk_decision.changed) == ("finished", 25, 25)
    assert bulk_decision.finished_at is not None
    assert bulk_decision.device_ids == []
    assert Event.objects.filter(kind="device.decommissioned", actor=ACTOR).count() == 25
    assert not Command.objects.open().exists()
    assert carry_out_bulk_decisions() == 0


def test_devices_in_another_state_are_left_alone() -> None:
    make_fleet(5)
    make_fleet(7, "pending")
    bulk_decision = record(Decision.APPROVE)
    carry_out_bulk_decisions()
    bulk_decision.refresh_from_db()
    assert (bulk_decision.processed, bulk_decision.changed) == (12, 7)
    assert Event.objects.filter(kind="device.approved").count() == 7


def test_a_device_that_registers_later_is_not_affected() -> None:
    make_fleet(12)
    record()
    make_device(name="late")
    carry_out_bulk_decisions()
    assert states() == {"decommissioned": 12, "accepted": 1}


def test_a_killed_scheduler_processes_no_device_twice() -> None:
    make_fleet(25)
    bulk_decision = record()
    bulk_decision.advance(10)
    with pytest.raises(Killed):
        advance_and_die(bulk_decision.pk)
    assert states() == {"decommissioned": 10, "accepted": 15}
    assert carry_out_bulk_decisions() == 15
    bulk_decision.refresh_from_db()
    assert (bulk_decision.processed, bulk_decision.changed) == (25, 25)
    assert Event.objects.filter(kind="device.decommissioned").count() == 25


class Killed(Exception):
    pass


def advance_and_die(key: UUID) -> None:
    """Process one batch, and die before its transaction commits."""
    with transaction.atomic():
        BulkDecision.objects.get(pk=key).advance(10)
        raise Killed


def test_stopping_leaves_the_remaining_devices_alone() -> None:
    make_fleet(25)
    bulk_decision = record()
    bulk_decision.advance(10)
    bulk_decision.stop(ACTOR)
    assert carry_out_bulk_decisions() == 0
    assert states() == {"decommissioned": 10, "accepted": 15}
    with pytest.raises(IllegalTransition):
        bulk_decision.stop(ACTOR)
