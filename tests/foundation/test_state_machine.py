"""The transition primitive: allowed transitions happen once, all others never."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps
from django.utils import timezone

from foundation.state_machine import StatefulModel, StatefulQuerySet, Transitions, UnknownTransition


class LampState(models.TextChoices):
    OFF = "off"
    ON = "on"
    BROKEN = "broken"


LAMP_TRANSITIONS = Transitions(
    {
        LampState.OFF: {LampState.ON, LampState.BROKEN},
        LampState.ON: {LampState.OFF, LampState.BROKEN},
        LampState.BROKEN: set(),
    }
)
ALLOWED = {("off", "on"), ("off", "broken"), ("on", "off"), ("on", "broken")}


@pytest.fixture
def lamps(transactional_db: None) -> Iterator[Any]:
    """A stateful model with its own database table."""
    with isolate_apps("foundation.events"):

        class Lamp(StatefulModel):
            transitions: ClassVar[Transitions] = LAMP_TRANSITIONS
            state = models.CharField(max_length=16, choices=LampState, default=LampState.OFF)
            reason = models.CharField(max_length=100, default="")
            changed_at = models.DateTimeField(null=True)
            objects = StatefulQuerySet["Lamp"].as_manager()

            class Meta:
                app_label = "events"

            @classmethod
            def stamps(cls, target: str) -> dict[str, Any]:
                return {"changed_at": timezone.now()} if target == LampState.BROKEN else {}

        with connection.schema_editor() as editor:
            editor.create_model(Lamp)
        yield Lamp
        with connection.schema_editor() as editor:
            editor.delete_model(Lamp)


@pytest.mark.parametrize("source", LampState)
@pytest.mark.parametrize("target", LampState)
def test_an_object_changes_exactly_as_its_table_allows(lamps: Any, source: LampState, target: LampState) -> None:
    lamp = lamps.objects.create(state=source)
    if not any(target == allowed for _, allowed in ALLOWED):
        with pytest.raises(UnknownTransition):
            lamp.transition_to(target)
        return
    assert lamp.transition_to(target, reason="tested") is ((source, target) in ALLOWED)
    is_allowed = (source, target) in ALLOWED
    for current in (lamp, lamps.objects.get(pk=lamp.pk)):
        assert current.state == (target if is_allowed else source)
        assert current.reason == ("tested" if is_allowed else "")
        assert (current.changed_at is not None) is (is_allowed and target == LampState.BROKEN)


def test_only_from_limits_the_source_states(lamps: Any) -> None:
    lamp = lamps.objects.create(state=LampState.OFF)
    assert not lamp.transition_to(LampState.BROKEN, only_from=[LampState.ON])
    assert lamp.transition_to(LampState.BROKEN, only_from=[LampState.OFF])


def test_a_source_state_without_that_transition_raises(lamps: Any) -> None:
    with pytest.raises(UnknownTransition, match="no transition to on from broken"):
        lamps.objects.transition_to(LampState.ON, only_from=[LampState.BROKEN])


def test_many_objects_change_in_one_update(lamps: Any) -> None:
    for state in (LampState.OFF, LampState.ON, LampState.BROKEN):
        lamps.objects.create(state=state)
    assert lamps.objects.transition_to(LampState.BROKEN, reason="storm") == 2
    assert lamps.objects.filter(reason="storm", changed_at__isnull=False).count() == 2


def test_exactly_one_of_several_racing_transitions_wins(lamps: Any) -> None:
    lamp = lamps.objects.create()
    start = threading.Barrier(6)

    def switch_on(_: int) -> bool:
        start.wait()
        try:
            return bool(lamps.objects.get(pk=lamp.pk).transition_to(LampState.ON))
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(switch_on, range(6))) == 1


def test_a_table_without_an_entry_for_a_target_state_raises() -> None:
    with pytest.raises(UnknownTransition, match="on"):
        Transitions({LampState.OFF: {LampState.ON}})


def test_a_table_knows_final_states_and_allowed_transitions() -> None:
    assert [state for state in LampState if LAMP_TRANSITIONS.is_final(state)] == [LampState.BROKEN]
    assert {(a, b) for a in LampState for b in LampState if LAMP_TRANSITIONS.allows(a, b)} == ALLOWED
