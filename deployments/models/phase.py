"""Phases: the parts of a deployment that are filled with devices one after the other."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from deployments.models.deployment import Deployment
from deployments.phases.thresholds import DEFAULT_ERROR_PERCENT, DEFAULT_SUCCESS_PERCENT, Thresholds, devices_of_share
from deployments.states import FORMER_PHASE_STATES, OPEN_PHASE_STATES, PHASE_TRANSITIONS, PhaseState
from foundation.state_machine import StatefulModel, StatefulQuerySet


class PhaseQuerySet(StatefulQuerySet["Phase"]):
    def open(self) -> Self:
        """Devices are admitted, or judged."""
        return self.in_states(*OPEN_PHASE_STATES)

    def adopt(self) -> int:
        """Rename the states that a process of the release before phases has written. Return how many rows changed."""
        return sum(
            self.in_states(former).transition_to(state, only_from=[former])
            for former, state in FORMER_PHASE_STATES.items()
        )


class Phase(StatefulModel):
    """One phase of a deployment: how many devices it has, its thresholds, and how long it soaks."""

    transitions = PHASE_TRANSITIONS

    id = models.BigAutoField(primary_key=True)
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="phases")
    number = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=16, choices=PhaseState, default=PhaseState.PENDING)
    # The size as it was requested: a share of the deployment's devices, or a number. Neither: all that remain.
    percent = models.PositiveSmallIntegerField(null=True)
    count = models.PositiveIntegerField(null=True)
    # How many devices this phase and those before it have together. 0 until the deployment has been planned.
    device_count = models.PositiveIntegerField(default=0)
    success_threshold_percent = models.PositiveSmallIntegerField(default=DEFAULT_SUCCESS_PERCENT)
    error_threshold_percent = models.PositiveSmallIntegerField(default=DEFAULT_ERROR_PERCENT)
    soak_seconds = models.PositiveIntegerField(default=0)
    # Whether an operator decides if the next phase may begin.
    manual_gate = models.BooleanField(default=False, db_default=False)
    # Failures that an operator accepted; they no longer count. See `PhaseCounts.forgiving`.
    forgiven = models.PositiveIntegerField(default=0, db_default=0)
    # How many devices lost their place because they did not accept the offer in time.
    evicted = models.PositiveIntegerField(default=0, db_default=0)
    opened_at = models.DateTimeField(null=True)
    # When the phase stops waiting for further devices.
    fill_ends_at = models.DateTimeField(null=True)
    soak_ends_at = models.DateTimeField(null=True)
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
        ended = (PhaseState.PASSED, PhaseState.SKIPPED, PhaseState.TRIPPED)
        return {"finished_at": timezone.now() if target in ended else None}

    def open(self, fill_seconds: int) -> bool:
        """Let devices be admitted, for the first time or after a trip. False if another process was faster."""
        now = timezone.now()
        opened_at = self.opened_at or now
        fill_ends_at = now + timedelta(seconds=fill_seconds)
        return self.transition_to(PhaseState.FILLING, opened_at=opened_at, fill_ends_at=fill_ends_at)

    def wait_for_devices(self, fill_seconds: int) -> None:
        """Give the phase the time again that it has for finding its devices."""
        self.fill_ends_at = timezone.now() + timedelta(seconds=fill_seconds)
        Phase.objects.filter(pk=self.pk).update(fill_ends_at=self.fill_ends_at)

    @property
    def soak_time(self) -> timedelta:
        return timedelta(seconds=self.soak_seconds)

    def thresholds(self, min_sample: int) -> Thresholds:
        return Thresholds(self.success_threshold_percent, self.error_threshold_percent, min_sample)

    def devices_of(self, total: int) -> int:
        """Return how many devices this phase and those before it have together, in a deployment of `total` devices."""
        if self.percent is not None:
            return devices_of_share(self.percent, total)
        return min(self.count, total) if self.count is not None else total

    @property
    def is_last(self) -> bool:
        """The last phase takes all devices that remain."""
        return self.percent is None and self.count is None


def device_counts(phases: Iterable[Phase], total: int) -> list[int]:
    """Return how many devices each phase and those before it have together. No phase has fewer than the one before."""
    counts: list[int] = []
    for phase in phases:
        counts.append(max(phase.devices_of(total), counts[-1] if counts else 0))
    return counts
