"""Queries for device deployments."""

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from django.db.models import Count, Exists, F, OuterRef, Q

from deployments.states import (
    ACTIVE_STATES,
    FAILED_LATE,
    UNFINISHED_STATES,
    UNSUCCESSFUL_STATES,
    DeviceDeploymentState,
)
from devices.models import Command, CommandKind
from foundation.state_machine import StatefulQuerySet

if TYPE_CHECKING:
    from deployments.models.device_deployment import DeviceDeployment  # noqa: F401 — only named in a string below

# How many device deployments are in which state.
StateCounts = dict[str, int]

IS_UNSUCCESSFUL = Q(state__in=UNSUCCESSFUL_STATES) | Q(late_at__isnull=False)


class DeviceDeploymentQuerySet(StatefulQuerySet["DeviceDeployment"]):
    def waiting(self) -> Self:
        return self.in_states(DeviceDeploymentState.WAITING)

    def active(self) -> Self:
        """The device has, or may have, the command."""
        return self.in_states(*ACTIVE_STATES)

    def unfinished(self) -> Self:
        return self.in_states(*UNFINISHED_STATES)

    def candidates(self) -> Self:
        """Wait for a phase that admits them."""
        return self.waiting().filter(phase=None)

    def unsuccessful(self) -> Self:
        """Ended without the bundle, and no operator wanted that; or succeeded and failed late."""
        return self.filter(IS_UNSUCCESSFUL)

    def observed(self) -> Self:
        """Succeeded, but the observation has not ended."""
        return self.filter(observation_ends_at__isnull=False)

    def with_result(self, result: str) -> Self:
        """Rows of one result: `failed_late`, or a state. A row that failed late does not count as succeeded."""
        if result == FAILED_LATE:
            return self.filter(late_at__isnull=False)
        rows = self.filter(state=result) if result else self
        return rows.filter(late_at__isnull=True) if result == DeviceDeploymentState.SUCCEEDED else rows

    def overdue(self, now: datetime) -> Self:
        """Active after the deadline."""
        return self.active().filter(deadline_at__lte=now)

    def with_device_names(self) -> Self:
        """Each row with its device and phase, of which only the name and the number are loaded."""
        return self.select_related("device", "phase").only(
            *(field.name for field in self.model._meta.concrete_fields), "device__name", "phase__number"
        )

    def counts(self) -> dict[uuid.UUID, StateCounts]:
        """Count the rows that take part by deployment and state."""
        counts: dict[uuid.UUID, StateCounts] = {}
        taking_part = self.exclude(state=DeviceDeploymentState.SKIPPED)
        lines = taking_part.order_by().values_list("deployment_id", "state").annotate(Count("pk"))
        for deployment_id, state, count in lines:
            counts.setdefault(deployment_id, {})[state] = count
        return counts

    def withdraw_offers(self, **fields: Any) -> int:
        """Put offers that no device has accepted back to `waiting`, as a new attempt. Return how many.

        A device that acknowledged the command and accepts it later gets the response that a newer attempt has begun.
        """
        offered = self.in_states(DeviceDeploymentState.OFFERED)
        ids = list(offered.select_for_update().values_list("pk", flat=True))
        Command.objects.for_device_deployments(ids).withdraw()
        return self.filter(pk__in=ids)._wait_again(**fields)

    def withdraw_unacknowledged_offers(self) -> int:
        """Put offers that no device has acknowledged back to `waiting`, as a new attempt. Return how many.

        A heartbeat may acknowledge a command at the same time: only rows whose command was withdrawn change.
        """
        unacknowledged = Command.objects.open().filter(kind=CommandKind.DEPLOY)
        offered = self.in_states(DeviceDeploymentState.OFFERED).filter(
            pk__in=unacknowledged.values("device_deployment_id")
        )
        ids = list(offered.select_for_update().values_list("pk", flat=True))
        unacknowledged.for_device_deployments(ids).withdraw()
        withdrawn = Command.objects.filter(
            kind=CommandKind.DEPLOY,
            withdrawn_at__isnull=False,
            device_deployment_id=OuterRef("pk"),
            attempt=OuterRef("attempt"),
        )
        return self.filter(Exists(withdrawn), pk__in=ids)._wait_again()

    def _wait_again(self, **fields: Any) -> int:
        """Put offers back to `waiting`, as a new attempt. `fields` are further columns to change."""
        return self.transition_to(
            DeviceDeploymentState.WAITING,
            attempt=F("attempt") + 1,
            report=0,
            offered_at=None,
            deadline_at=None,
            reached_at={},
            **fields,
        )
