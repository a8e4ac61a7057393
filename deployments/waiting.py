"""What an unfinished device deployment waits for, as a code for programs and a sentence for people.

The answer is computed on request, never stored. A page of device deployments of any length takes one query, and at most
four more for each deployment with unfinished device deployments on the page. The first of these that applies is the
answer:

- A waiting device deployment waits for a hold, planning, the start, a pause, a cancellation, a phase, the next attempt,
  another deployment, a limit, or an offer.
- An active one waits for the device to come online, or else for its next report.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q, TextChoices
from django.utils import timezone

from deployments.limits import describe_limits, is_limited
from deployments.models import Deployment, DeploymentState, DeviceDeployment, DeviceDeploymentState, Hold, Phase
from deployments.precedence import BY_PRECEDENCE
from deployments.states import ACTIVE_STATES, OPEN_PHASE_STATES, UNFINISHED_STATES, PauseReason, PhaseState
from devices.models import Device
from foundation.formatting import duration, size


class WaitKind(TextChoices):
    HOLD = "hold", "deployments are held"
    PLANNING = "planning", "the deployment is being planned"
    START = "start", "the deployment has not started"
    PAUSE = "pause", "the deployment is paused"
    CANCEL = "cancel", "the deployment is ending"
    PHASE = "phase", "a phase has not admitted the device"
    RETRY = "retry", "the pause before the next attempt"
    OTHER_DEPLOYMENT = "other_deployment", "another deployment of the product comes first"
    LIMIT = "limit", "a limit of the deployment"
    OFFER = "offer", "the scheduler offers the bundle next"
    OFFLINE = "offline", "the device is offline"
    ACCEPTANCE = "acceptance", "the device has not accepted the offer"
    DOWNLOAD = "download", "the device is downloading"
    INSTALLATION = "installation", "the device is installing"
    CHECK = "check", "the health check is running"
    CANCELLATION = "cancellation", "the device has not confirmed the cancellation"


ACTIVE_KINDS = {
    DeviceDeploymentState.OFFERED: WaitKind.ACCEPTANCE,
    DeviceDeploymentState.ACCEPTED: WaitKind.DOWNLOAD,
    DeviceDeploymentState.DOWNLOADING: WaitKind.DOWNLOAD,
    DeviceDeploymentState.INSTALLING: WaitKind.INSTALLATION,
    DeviceDeploymentState.CHECKING: WaitKind.CHECK,
    DeviceDeploymentState.CANCELLING: WaitKind.CANCELLATION,
}


@dataclass(frozen=True, slots=True)
class Wait:
    """What a device deployment waits for. `until` is when the wait ends at the latest, if that is known.

    For `offline`, `since` is when the device was last heard from. For `other_deployment`, `deployment` is its
    id.
    """

    kind: WaitKind
    text: str
    until: datetime | None = None
    since: datetime | None = None
    deployment: UUID | None = None


def waits_of(rows: Iterable[DeviceDeployment]) -> dict[UUID, Wait]:
    """Return what the unfinished rows wait for, by the row's id."""
    by_deployment: dict[UUID, list[DeviceDeployment]] = {}
    for row in rows:
        if row.state in UNFINISHED_STATES:
            by_deployment.setdefault(row.deployment_id, []).append(row)
    if not by_deployment:
        return {}
    deployments = Deployment.objects.select_related("bundle").defer("bundle__manifest").in_bulk(by_deployment)
    waits: dict[UUID, Wait] = {}
    for deployment_id, unfinished in by_deployment.items():
        waits |= _DeploymentWaits(deployments[deployment_id], unfinished).waits
    return waits


class _DeploymentWaits:
    """What rows of one deployment wait for, with the data that determines it."""

    def __init__(self, deployment: Deployment, rows: Sequence[DeviceDeployment]) -> None:
        self.now = timezone.now()
        self.deployment = deployment
        ids = [row.device_id for row in rows]
        devices = Device.objects.select_related("group").only("state", "last_heartbeat_at", "group__interval_seconds")
        self.devices = devices.in_bulk(ids)
        waiting = [row for row in rows if row.state == DeviceDeploymentState.WAITING]
        self.obstacle = self._obstacle() if waiting else None
        self.phase = self._next_phase() if any(row.phase_id is None for row in waiting) else None
        self.others = self._others(waiting)
        self.waits = {row.pk: self._wait(row) for row in rows}

    def _obstacle(self) -> Wait | None:
        """Return what keeps the deployment from offering anything, or None."""
        state = self.deployment.state
        if Hold.objects.active().exists():
            return Wait(WaitKind.HOLD, "Deployments are held.")
        if state == DeploymentState.PLANNING:
            return Wait(WaitKind.PLANNING, "The deployment is being planned.")
        if state == DeploymentState.SCHEDULED:
            return Wait(WaitKind.START, "The deployment has not started.", until=self.deployment.start_at)
        if state == DeploymentState.PAUSED:
            return Wait(WaitKind.PAUSE, f"The deployment is paused: {PauseReason(self.deployment.pause_reason).label}.")
        if state != DeploymentState.RUNNING:
            return Wait(WaitKind.CANCEL, "The scheduler is about to cancel it.")
        return None

    def _next_phase(self) -> Phase | None:
        open_states = (*OPEN_PHASE_STATES, PhaseState.PENDING, PhaseState.TRIPPED)
        phases = Phase.objects.filter(deployment=self.deployment.pk, state__in=open_states).order_by("number")
        return phases.first()

    def _others(self, waiting: Collection[DeviceDeployment]) -> dict[UUID, DeviceDeployment]:
        """Return the first device deployment in the order of precedence, by device. An active one comes first."""
        if not waiting:
            return {}
        same_product = DeviceDeployment.objects.filter(
            device__in=[row.device_id for row in waiting],
            product=self.deployment.bundle.name,
        ).filter(
            Q(state__in=ACTIVE_STATES)
            | Q(state=DeviceDeploymentState.WAITING, phase__isnull=False, deployment__state=DeploymentState.RUNNING)
        )
        by_device: dict[UUID, DeviceDeployment] = {}
        rows = same_product.select_related("deployment__bundle").defer("deployment__bundle__manifest")
        for row in rows.order_by(*BY_PRECEDENCE):
            earlier = by_device.get(row.device_id)
            if earlier is None or (earlier.state == DeviceDeploymentState.WAITING != row.state):
                by_device[row.device_id] = row
        return by_device

    def _wait(self, row: DeviceDeployment) -> Wait:
        if row.state != DeviceDeploymentState.WAITING:
            return self._wait_for_device(row)
        if self.obstacle:
            return self.obstacle
        if row.phase_id is None:
            return self._wait_for_phase()
        if row.retry_at and row.retry_at > self.now:
            pause = duration((row.retry_at - self.now).total_seconds())
            return Wait(WaitKind.RETRY, f"Attempt {row.failures + 1} begins in {pause}.", until=row.retry_at)
        other = self.others.get(row.device_id)
        if other is not None and other.pk != row.pk:
            title = other.deployment.title
            return Wait(WaitKind.OTHER_DEPLOYMENT, f"{title} comes first.", deployment=other.deployment_id)
        if is_limited(self.deployment):
            return Wait(WaitKind.LIMIT, f"The deployment has a limit: {describe_limits(self.deployment)}.")
        return Wait(WaitKind.OFFER, "The scheduler offers the bundle next.")

    def _wait_for_phase(self) -> Wait:
        if self.phase is None:
            return Wait(WaitKind.PHASE, "No phase has admitted the device.")
        if self.phase.state == PhaseState.PENDING:
            return Wait(WaitKind.PHASE, f"Phase {self.phase.number} has not begun.")
        if self.phase.is_last or self.phase.state == PhaseState.FILLING:
            return Wait(WaitKind.PHASE, f"Phase {self.phase.number} has not admitted the device.")
        return Wait(WaitKind.PHASE, f"Phase {self.phase.number + 1} has not begun.", until=self.phase.soak_ends_at)

    def _wait_for_device(self, row: DeviceDeployment) -> Wait:
        device = self.devices.get(row.device_id)
        if device is not None and not device.is_online_at(self.now):
            since = device.last_heartbeat_at
            silence = f" for {duration((self.now - since).total_seconds())}" if since else ""
            text = f"The device has been offline{silence}." if since else "The device has never sent a heartbeat."
            return Wait(WaitKind.OFFLINE, text, until=row.deadline_at, since=since)
        kind = ACTIVE_KINDS[DeviceDeploymentState(row.state)]
        return Wait(kind, self._activity(row, kind), until=row.deadline_at)

    def _activity(self, row: DeviceDeployment, kind: WaitKind) -> str:
        if kind == WaitKind.DOWNLOAD and row.bytes_total:
            return f"Downloads: {size(row.bytes_done)} of {size(row.bytes_total)}{self._time_left(row)}."
        return {
            WaitKind.ACCEPTANCE: "The device has not accepted the offer.",
            WaitKind.DOWNLOAD: "The device is preparing its download.",
            WaitKind.INSTALLATION: "The device is installing the bundle.",
            WaitKind.CHECK: "The device is checking the health of the bundle.",
            WaitKind.CANCELLATION: "The device has not confirmed the cancellation.",
        }[kind]

    def _time_left(self, row: DeviceDeployment) -> str:
        """Return the rate and the remaining time of a download, or an empty string while they are unknown."""
        began = row.reached_at.get(DeviceDeploymentState.DOWNLOADING)
        if not began or not row.bytes_done or row.state != DeviceDeploymentState.DOWNLOADING:
            return ""
        seconds = (self.now - datetime.fromisoformat(began)).total_seconds()
        if seconds < 1:
            return ""
        rate = row.bytes_done / seconds
        left = duration((row.bytes_total - row.bytes_done) / rate)
        return f" at {size(rate)}/s, {left} left"
