"""Bulk decisions: one decision about many devices, which the scheduler carries out in batches.

    running ──► finished     every device was processed
       │
       └──────► stopped      an operator stopped it; what was processed stays as it is

The chosen devices are fixed when the operator decides. A batch changes its devices and moves `processed` forward in one
transaction: a scheduler that is killed, or a second one at the same time, processes no device twice.
"""

import uuid
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import connection, models, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from devices.models.device import Device
from devices.models.device_state import DECISION_RULES, Decision
from foundation.errors import IllegalTransition
from foundation.events.models import record_event
from foundation.state_machine import StatefulModel, StatefulQuerySet, Transitions

# One statement copies the ids, 16 bytes each, without reading them here.
_INSERT = """
INSERT INTO devices_bulkdecision (id, decision, state, actor, device_ids, total, processed, changed, created_at)
SELECT %s, %s, %s, %s, coalesce(array_agg(chosen.id), '{{}}'), count(*), 0, 0, now() FROM ({devices}) AS chosen (id)
"""


class BulkDecisionState(models.TextChoices):
    RUNNING = "running", "running"
    FINISHED = "finished", "finished"
    STOPPED = "stopped", "stopped"


BULK_DECISION_TRANSITIONS = Transitions({
    BulkDecisionState.RUNNING: {BulkDecisionState.FINISHED, BulkDecisionState.STOPPED},
    BulkDecisionState.FINISHED: set(),
    BulkDecisionState.STOPPED: set(),
})  # fmt: skip


class BulkDecisionQuerySet(StatefulQuerySet["BulkDecision"]):
    def running(self) -> "BulkDecisionQuerySet":
        return self.in_states(BulkDecisionState.RUNNING)


class BulkDecision(StatefulModel):
    """One decision about many devices, and how far it is. `changed` counts the devices whose state allowed it."""

    transitions = BULK_DECISION_TRANSITIONS

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    decision = models.CharField(max_length=16, choices=Decision)
    state = models.CharField(max_length=16, choices=BulkDecisionState, default=BulkDecisionState.RUNNING)
    actor = models.CharField(max_length=160)
    # Emptied at the end: a million ids are 16 MB. Defer it wherever it is not needed.
    device_ids = ArrayField(models.UUIDField())
    total = models.PositiveIntegerField()
    processed = models.PositiveIntegerField(default=0)
    changed = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    objects = BulkDecisionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            # The scheduler looks for the oldest running one.
            models.Index(fields=["created_at"], name="bulk_decision_running", condition=Q(state="running")),
        ]

    def __str__(self) -> str:
        return f"{self.decision} {self.total:,} devices"

    @classmethod
    def stamps(cls, target: str) -> dict[str, Any]:
        """Return the columns that change at the end."""
        return {"finished_at": Now(), "device_ids": []}

    @classmethod
    def record(cls, decision: Decision, devices: QuerySet[Device], actor: str) -> "BulkDecision":
        """Record a decision about these devices, for the scheduler to carry out."""
        sql, params = devices.order_by().values("pk").query.sql_with_params()
        key = uuid.uuid4()
        values = [key, decision.value, BulkDecisionState.RUNNING.value, actor, *params]
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(_INSERT.format(devices=sql), values)
            bulk_decision = cls.objects.defer("device_ids").get(pk=key)
            record_event(
                "device.bulk_decision",
                f"{bulk_decision.total:,} devices are being {DECISION_RULES[decision].participle}.",
                actor=actor,
                bulk_decision=str(key),
            )
        return bulk_decision

    def advance(self, size: int) -> int:
        """Carry the decision out on the next `size` devices. Return how many were processed.

        Call it in a transaction that has locked this row.
        """
        end = self.processed + size
        batch = f"device_ids__{self.processed}_{end}"
        ids = BulkDecision.objects.filter(pk=self.pk).values_list(batch, flat=True).get()
        changed = Device.objects.filter(pk__in=ids).decide(Decision(self.decision), self.actor)
        progress: dict[str, Any] = {"processed": F("processed") + len(ids), "changed": F("changed") + changed}
        if end >= self.total:
            self.transition_to(BulkDecisionState.FINISHED, **progress)
        else:
            BulkDecision.objects.filter(pk=self.pk).update(**progress)
        return len(ids)

    def stop(self, actor: str) -> None:
        """Leave the devices that were not processed yet as they are.

        Raises:
            IllegalTransition: `wrong_state`, if it has ended.
        """
        if not self.transition_to(BulkDecisionState.STOPPED):
            raise IllegalTransition("wrong_state", f"This bulk decision is {self.state}.", state=str(self.state))
        record_event(
            "device.bulk_decision_stopped", f"The bulk decision “{self}” was stopped.",
            actor=actor, bulk_decision=str(self.pk),
        )  # fmt: skip
