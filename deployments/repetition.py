"""Starting a deployment again, with the same definition, for all its devices or for those that failed.

Final states never change, so a further try is a new deployment. It has the same phases, thresholds and limits, and
starts at once. As long as it has not ended, the same request returns it again.
"""

from collections.abc import Collection

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q

from deployments.definition import MAX_DEVICES
from deployments.models import Deployment, DeviceDeployment, Phase, Selection
from foundation.errors import BadRequest, Conflict
from foundation.events.models import record_event

# What a repetition has in common with its original, besides the bundle.
COPIED_FIELDS = (
    "deadline_seconds", "observation_seconds", "unhealthy_seconds", "accept_seconds", "fill_seconds", "allow_downgrade",
    "on_failure", "min_sample", "max_bad", "strata", "priority", "max_attempts", "max_in_flight",
    "max_in_flight_per_tag", "limit_tag", "min_available_percent", "devices_per_minute",
)  # fmt: skip
COPIED_PHASE_FIELDS = (
    "number", "percent", "count", "success_threshold_percent", "error_threshold_percent", "soak_seconds", "manual_gate",
)  # fmt: skip
COPIED_SELECTION_FIELDS = ("groups", "group_queries", "devices", "query", "exclude", "canaries")


def start_again(deployment: Deployment, *, actor: str, created_by: User | None = None) -> Deployment:
    """Start a deployment of the same bundle to the same selection. The groups and queries are evaluated again.

    Raises `Conflict`: `is_a_rollback`, or `bundle_not_ready`.
    """
    original = Selection.objects.get(pk=deployment.pk)
    selection = Selection(**{name: getattr(original, name) for name in COPIED_SELECTION_FIELDS})
    return _repeat(deployment, selection, "", actor, created_by)


def retry_failed(
    deployment: Deployment, reason_codes: Collection[str] = (), *, actor: str, created_by: User | None = None
) -> Deployment:
    """Start a deployment of the same bundle to the devices that failed, at once or late.

    With `reason_codes`, only to those that failed for one of these reasons.

    Raises:
        Conflict: `is_a_rollback`; `bundle_not_ready`; `nothing_to_retry` if no device failed.
        BadRequest: `too_many_devices`.
    """
    failed = DeviceDeployment.objects.filter(deployment=deployment).unsuccessful()
    if reason_codes:
        failed = failed.filter(
            Q(late_at=None, reason_code__in=reason_codes) | Q(late_at__isnull=False, late_reason_code__in=reason_codes)
        )
    devices = list(failed.order_by("device").values_list("device", flat=True)[: MAX_DEVICES + 1])
    if not devices:
        raise Conflict("nothing_to_retry", "No device failed in this way.")
    if len(devices) > MAX_DEVICES:
        raise BadRequest("too_many_devices", f"More than {MAX_DEVICES} devices failed; start the deployment again.")
    note = "failed devices" + (f" ({', '.join(sorted(reason_codes))})" if reason_codes else "")
    return _repeat(deployment, Selection(devices=devices), note, actor, created_by)


def _repeat(deployment: Deployment, selection: Selection, note: str, actor: str, created_by: User | None) -> Deployment:
    if deployment.reverts_id:
        raise Conflict("is_a_rollback", "This deployment is a rollback. Roll its original back, or deploy a bundle.")
    bundle = deployment.bundle
    if not type(bundle).objects.ready().filter(pk=bundle.pk).exists():
        raise Conflict("bundle_not_ready", f"{bundle} is not ready; only ready bundles are deployed.")
    fields = {name: getattr(deployment, name) for name in COPIED_FIELDS} | {"note": note or deployment.note}
    with transaction.atomic():
        Deployment.objects.select_for_update(no_key=True).only("pk").get(pk=deployment.pk)
        under_way = Deployment.objects.unfinished().filter(repeats=deployment.pk, note=fields["note"]).first()
        if under_way is not None:
            return under_way
        repetition = Deployment.objects.create(bundle=bundle, created_by=created_by, repeats=deployment.pk, **fields)
        Phase.objects.bulk_create(
            Phase(deployment=repetition, **{name: getattr(phase, name) for name in COPIED_PHASE_FIELDS})
            for phase in deployment.phases.order_by("number")
        )
        selection.deployment = repetition
        selection.save(force_insert=True)
        record_event(
            "deployment.started",
            f"A deployment of {bundle} was started again" + (f" for {note}." if note else "."),
            actor=actor,
            deployment=repetition.pk,
            bundle=bundle.pk,
            repeats=str(deployment.pk),
        )
    return repetition
