"""From an operator's decision to commands in the devices' queues."""

import time
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.models import Count, Exists, OuterRef, Q, Subquery
from django.utils import timezone

from bundles.models import Bundle, BundleState
from deployments.models import (
    Deployment,
    DeploymentState,
    DeviceDeployment,
    DeviceDeploymentQuerySet,
    DeviceDeploymentState,
    Hold,
    Phase,
    PhaseState,
)
from devices.models import BundleReference, Command, DeployPayload, Device, DeviceState, Group
from foundation.api.times import format_time
from foundation.errors import BadRequest, Conflict
from foundation.events.models import record_event

# How many devices are offered their turn in one transaction, and for how long one run of the step goes on.
BATCH = 1000
RUN_SECONDS = 5.0
NAMED_AT_MOST = 20
ONE_ACTIVE = "one_active_per_device_and_product"

# One statement: a fleet of 100,000 costs neither memory here nor a device that changes in between.
_CHOOSE = """
INSERT INTO deployments_devicedeployment (
    id, deployment_id, phase_id, device_id, product, state, attempt, report, reason_code, message,
    bytes_done, bytes_total, timings, reached_at, late_state, created_at, state_changed_at)
SELECT gen_random_uuid(), %(deployment)s, %(phase)s, id, %(product)s, 'waiting', 1, 0, '', '',
    0, 0, '{}', '{}', '', %(now)s, %(now)s
FROM devices_device
WHERE state = 'accepted' AND (group_id = ANY(%(groups)s) OR id = ANY(%(devices)s))
    AND (cardinality(%(device_types)s::text[]) = 0 OR device_type = ANY(%(device_types)s))
"""


def start(
    bundle: Bundle,
    *,
    groups: Collection[str] = (),
    devices: Collection[UUID] = (),
    actor: str,
    created_by: User | None = None,
    deadline_seconds: int | None = None,
    note: str = "",
) -> Deployment:
    """Deploy a ready bundle to devices, given by their ids and the names of their groups, in one open phase.

    Devices that are not accepted, or of a type that the bundle is not for, are left out and counted in `skipped`.

    Raises:
        BadRequest: `nobody_chosen`; `unknown_groups`, `unknown_devices`, with those that are unknown.
        Conflict: `bundle_not_ready`; `no_devices` when every chosen device would be left out, with `skipped`.
    """
    group_ids = _known_groups(groups)
    _check_devices(devices)
    if not group_ids and not devices:
        raise BadRequest("nobody_chosen", "Name at least one device or group.")
    with transaction.atomic():
        if not Bundle.objects.ready().filter(pk=bundle.pk).exists():
            raise Conflict("bundle_not_ready", f"{bundle} is not ready; only ready bundles are deployed.")
        deployment = Deployment.objects.create(
            bundle=bundle,
            note=note,
            created_by=created_by,
            deadline_seconds=settings.DEVICE_DEADLINE_SECONDS if deadline_seconds is None else deadline_seconds,
            skipped=_skipped(bundle, group_ids, devices),
        )
        count = _choose(deployment, group_ids, devices)
        record_event(
            "deployment.started",
            f"{bundle} is being deployed to {'1 device' if count == 1 else f'{count} devices'}.",
            actor=actor,
            deployment=deployment.pk,
            bundle=bundle.pk,
            devices=count,
            skipped=deployment.skipped,
        )
    return deployment


def _known_groups(names: Collection[str]) -> list[UUID]:
    known = dict(Group.objects.filter(name__in=names).values_list("name", "pk"))
    unknown = sorted(set(names) - set(known))
    if unknown:
        shown = unknown[:NAMED_AT_MOST]
        raise BadRequest("unknown_groups", f"There are no groups with these names: {', '.join(shown)}.", groups=shown)
    return list(known.values())


def _check_devices(ids: Collection[UUID]) -> None:
    unknown = sorted(set(ids) - set(Device.objects.filter(pk__in=ids).values_list("pk", flat=True)))
    if unknown:
        shown = [str(one) for one in unknown[:NAMED_AT_MOST]]
        raise BadRequest("unknown_devices", f"There are no devices with these ids: {', '.join(shown)}.", devices=shown)


def _skipped(bundle: Bundle, group_ids: Collection[UUID], ids: Collection[UUID]) -> dict[str, int]:
    """How many chosen devices are left out, by reason. A decommissioned device counts only if it is named itself."""
    chosen = Device.objects.filter(Q(pk__in=ids) | Q(group__in=group_ids) & ~Q(state=DeviceState.DECOMMISSIONED))
    is_accepted = Q(state=DeviceState.ACCEPTED)
    fits = Q(device_type__in=bundle.device_types) if bundle.device_types else Q(pk__isnull=False)
    counted: dict[str, int] = chosen.aggregate(
        not_accepted=Count("pk", filter=~is_accepted), wrong_device_type=Count("pk", filter=is_accepted & ~fits)
    )
    return counted


def _choose(deployment: Deployment, group_ids: Collection[UUID], ids: Collection[UUID]) -> int:
    """Let the chosen devices wait in the deployment's one phase. Returns how many; raises `Conflict` for none."""
    phase = Phase.objects.create(
        deployment=deployment, number=1, state=PhaseState.OPEN, device_count=0, opened_at=timezone.now()
    )
    values: dict[str, Any] = {
        "deployment": deployment.pk,
        "phase": phase.pk,
        "product": deployment.bundle.name,
        "groups": list(group_ids),
        "devices": list(ids),
        "device_types": deployment.bundle.device_types,
        "now": deployment.created_at,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CHOOSE, values)
        count: int = cursor.rowcount
    if not count:
        raise Conflict(
            "no_devices",
            f"No device is left for {deployment.bundle}: {_why_nobody(deployment.skipped)}.",
            skipped=deployment.skipped,
        )
    Phase.objects.filter(pk=phase.pk).update(device_count=count)
    return count


def _why_nobody(skipped: dict[str, int]) -> str:
    """Why every chosen device was left out."""
    told = {
        "not_accepted": "{} not accepted (approve those that wait)",
        "wrong_device_type": "{} of a type that the bundle is not for",
    }
    reasons = [sentence.format(skipped[name]) for name, sentence in told.items() if skipped[name]]
    return ", ".join(reasons) or "the chosen groups are empty"


def offer() -> int:
    """Give waiting devices their turn: the command stands in their queue when this returns. Returns how many.

    Safe to run twice at once: rows that another run holds are skipped.
    """
    ends_at = time.monotonic() + RUN_SECONDS
    offered = 0
    while time.monotonic() < ends_at:
        try:
            batch = _offer_batch()
        except IntegrityError as error:
            if ONE_ACTIVE not in str(error):
                raise
            break  # another scheduler was faster with the same device and product: the next run sees that
        offered += batch
        if batch < BATCH:
            break
    return offered


def open_phases() -> list[int]:
    """The phases from which devices are offered their turn; none while deployments are held."""
    phases = Phase.objects.filter(
        ~Exists(Hold.objects.active()),
        state=PhaseState.OPEN,
        deployment__state=DeploymentState.RUNNING,
        deployment__bundle__state=BundleState.READY,
    )
    return list(phases.values_list("pk", flat=True))


def whose_turn_it_is(phases: Collection[int]) -> DeviceDeploymentQuerySet:
    """Waiting rows of these phases whose device is free: nothing of that product is active or waits for longer.

    Both questions are asked as scalar subqueries: they stay look-ups in an index for each row, also right after a
    hundred thousand rows were added, when the database does not know yet how many there are. As EXISTS they become
    joins, which then take minutes.
    """
    same = DeviceDeployment.objects.filter(device=OuterRef("device"), product=OuterRef("product"))
    oldest = same.waiting().filter(phase__in=phases).order_by("created_at", "pk").values("pk")[:1]
    return (
        DeviceDeployment.objects.waiting()
        .filter(phase__in=phases, device__state=DeviceState.ACCEPTED, pk=Subquery(oldest))
        .alias(at_work=Subquery(same.active().order_by().values("pk")[:1]))
        .filter(at_work__isnull=True)
    )


def _offer_batch() -> int:
    if not open_phases():
        return 0
    with transaction.atomic():
        Hold.objects.keep_out()
        phases, now = open_phases(), timezone.now()
        due = whose_turn_it_is(phases).order_by().select_for_update(skip_locked=True, of=("self",))
        rows = sorted(due.only("pk", "deployment", "device", "attempt")[:BATCH], key=lambda row: row.deployment_id)
        deployments = Deployment.objects.select_related("bundle").defer("bundle__manifest")
        known = deployments.in_bulk({row.deployment_id for row in rows})
        commands: list[Command] = []
        for deployment_id, group in groupby(rows, key=lambda row: row.deployment_id):
            commands += _offer(known[deployment_id], list(group), now)
        Command.objects.queue_many(commands)
    return len(rows)


def _offer(deployment: Deployment, rows: list[DeviceDeployment], now: datetime) -> Iterable[Command]:
    """Move the locked rows of one deployment. Returns the commands that are to be queued for them."""
    deadline_at = now + timedelta(seconds=deployment.deadline_seconds)
    DeviceDeployment.objects.filter(pk__in=[row.pk for row in rows]).move_to(
        DeviceDeploymentState.OFFERED,
        offered_at=now,
        deadline_at=deadline_at,
        reached_at={DeviceDeploymentState.OFFERED: format_time(now)},
    )
    bundle = deployment.bundle
    reference = BundleReference(bundle.name, bundle.version, bundle.manifest_sha256, bundle.manifest_size)
    for row in rows:
        payload = DeployPayload(deployment.pk, row.attempt, reference, deadline_at)
        yield Command.build(row.device_id, payload, device_deployment_id=row.pk, attempt=row.attempt)
