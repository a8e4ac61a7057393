"""Phases: the parts of a deployment that open one after the other."""

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone

from deployments.models.deployment import Deployment
from deployments.states import PHASE_TRANSITIONS, PhaseState
from foundation.state_machine import StatefulModel, StatefulQuerySet


class PhaseQuerySet(StatefulQuerySet["Phase"]):
    pass


class Phase(StatefulModel):
    """One phase of a deployment: how many devices it has, its thresholds, and how long it soaks."""

    transitions = PHASE_TRANSITIONS

    id = models.BigAutoField(primary_key=True)
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="phases")
    number = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=16, choices=PhaseState, default=PhaseState.WAITING)
    device_count = models.PositiveIntegerField()
    success_threshold_percent = models.PositiveSmallIntegerField(default=100)
    error_threshold_percent = models.PositiveSmallIntegerField(default=100)
    soak_seconds = models.PositiveIntegerField(default=0)
    opened_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = PhaseQuerySet.as_manager()

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["deployment", "number"], name="phase_number_once"),
            models.CheckConstraint(
                condition=Q(success_threshold_percent__lte=100, error_threshold_percent__lte=100),
                name="phase_thresholds_are_percent",
            ),
        ]

    def __str__(self) -> str:
        return f"phase {self.number}"

    @classmethod
    def stamps(cls, target: str) -> dict[str, Any]:
        column = {PhaseState.OPEN: "opened_at", PhaseState.FINISHED: "finished_at"}.get(PhaseState(target))
        return {column: timezone.now()} if column else {}
