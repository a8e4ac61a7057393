"""Filters and responses of the operators' endpoints."""

from dataclasses import asdict
from typing import Any

from django.db.models import prefetch_related_objects
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from deployments.models import Deployment, DeploymentState, DeviceDeployment, Phase
from deployments.models.device_deployment_queryset import StateCounts
from deployments.phases.narration import next_step
from deployments.phases.survey import counts_of_phases, survey
from deployments.phases.thresholds import PhaseCounts
from deployments.progress import counts_of, outcome_of, refresh_observation
from deployments.states import COUNTED_RESULTS, RESULTS, DeploymentOutcome, SkipReason
from deployments.waiting import WaitKind, waits_of


class DeploymentFilter(serializers.Serializer[Any]):
    """`bundle` is a bundle's name, or `name@version`."""

    state = serializers.ChoiceField(DeploymentState.choices, required=False)
    bundle = serializers.CharField(max_length=127, required=False)


class Counts(serializers.Serializer[Any]):
    """How many device deployments are in which state. A success that failed late counts as `failed_late` only."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {result: serializers.IntegerField() for result in COUNTED_RESULTS}


class PhaseCountsResponse(serializers.Serializer[Any]):
    """How many devices the phase admitted, and how many of them have which result."""

    admitted = serializers.IntegerField()
    good = serializers.IntegerField(help_text="Succeeded, and still so.")
    bad = serializers.IntegerField(help_text="Failed, at once or late.")
    lost = serializers.IntegerField(help_text="Never accepted the offer.")
    neutral = serializers.IntegerField(help_text="Cancelled.")


class Skipped(serializers.Serializer[Any]):
    """How many selected devices cannot take part, by reason. The numbers grow while the deployment is `planning`."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {reason: serializers.IntegerField() for reason in SkipReason.values}


class PhaseResponse(serializers.ModelSerializer[Phase]):
    """One phase with its counts. `device_count` is cumulative, and 0 until the deployment has been planned."""

    counts = serializers.SerializerMethodField()

    class Meta:
        model = Phase
        fields = [
            "number",
            "state",
            "percent",
            "count",
            "device_count",
            "counts",
            "evicted",
            "forgiven",
            "success_threshold_percent",
            "error_threshold_percent",
            "soak_seconds",
            "manual_gate",
            "opened_at",
            "fill_ends_at",
            "soak_ends_at",
            "finished_at",
        ]
        read_only_fields = fields

    @extend_schema_field(PhaseCountsResponse)
    def get_counts(self, phase: Phase) -> dict[str, int]:
        counts: dict[int, PhaseCounts] = self.context["phase_counts"]
        return asdict(counts.get(phase.pk, PhaseCounts()))


class DeploymentResponse(serializers.ModelSerializer[Deployment]):
    """One deployment. Build it with `deployment_responses`."""

    bundle = serializers.StringRelatedField[Any]()
    reverts = serializers.UUIDField(
        source="reverts_id", allow_null=True, help_text="The deployment that this one rolls back."
    )
    repeats = serializers.UUIDField(allow_null=True, help_text="The deployment whose definition this one has.")
    outcome = serializers.SerializerMethodField()
    counts = serializers.SerializerMethodField()
    observing = serializers.SerializerMethodField()
    skipped = Skipped(source="skipped_counts")
    phases = PhaseResponse(many=True)
    next_step = serializers.SerializerMethodField()
    stalled_at = serializers.DateTimeField(allow_null=True, help_text="Since when it has made no progress.")
    reason_code = serializers.CharField(
        help_text="Why the deployment ended before its devices: `no_devices`, `bundle_withdrawn`, `query_failed`,"
        " `expired`, or the reason of the trip that cancelled it. Empty otherwise."
    )

    class Meta:
        model = Deployment
        fields = [
            "id",
            "bundle",
            "reverts",
            "repeats",
            "state",
            "reason_code",
            "outcome",
            "counts",
            "observing",
            "skipped",
            "device_count",
            "phases",
            "pause_reason",
            "next_step",
            "stalled_at",
            "strata",
            "on_failure",
            "min_sample",
            "max_bad",
            "accept_seconds",
            "fill_seconds",
            "allow_downgrade",
            "priority",
            "max_attempts",
            "superseded",
            "start_at",
            "expires_at",
            "max_in_flight",
            "max_in_flight_per_tag",
            "limit_tag",
            "min_available_percent",
            "devices_per_minute",
            "note",
            "deadline_seconds",
            "observation_seconds",
            "unhealthy_seconds",
            "created_at",
            "paused_at",
            "cancelled_at",
            "rolled_back_at",
            "finished_at",
        ]
        read_only_fields = fields

    @extend_schema_field(Counts)
    def get_counts(self, deployment: Deployment) -> dict[str, int]:
        counts: StateCounts = self.context["counts"][deployment.pk]
        return {result: counts.get(result, 0) for result in COUNTED_RESULTS}

    @extend_schema_field(serializers.ChoiceField([*DeploymentOutcome.choices, ("", "not ended")]))
    def get_outcome(self, deployment: Deployment) -> str:
        """How the deployment ended. Empty until then. `succeeded` is final once `observing` is 0."""
        return outcome_of(deployment, self.context["counts"][deployment.pk])

    def get_next_step(self, deployment: Deployment) -> str:
        """What the deployment waits for, as a sentence. Empty after its end."""
        return str(self.context["next_steps"].get(deployment.pk, ""))

    def get_observing(self, deployment: Deployment) -> int:
        """How many successes are still under observation."""
        observing: int = self.context["observing"].get(deployment.pk, 0)
        return observing


class DeviceDeploymentFilter(serializers.Serializer[Any]):
    state = serializers.ChoiceField(RESULTS, required=False)


class LateOutcome(serializers.Serializer[Any]):
    """Why and when a success failed within its observation time."""

    reason_code = serializers.CharField()
    message = serializers.CharField()
    at = serializers.DateTimeField()


class WaitResponse(serializers.Serializer[Any]):
    """What a device deployment waits for."""

    kind = serializers.ChoiceField(WaitKind.choices)
    text = serializers.CharField(help_text="What it waits for, as a sentence.")
    until = serializers.DateTimeField(allow_null=True, help_text="When the wait ends at the latest, if that is known.")
    since = serializers.DateTimeField(allow_null=True, help_text="For `offline`: when the device was last heard from.")
    deployment = serializers.UUIDField(allow_null=True, help_text="For `other_deployment`: the id of that deployment.")


class DeviceDeploymentList(serializers.ListSerializer[Any]):
    """A page of device deployments. It computes what all of them wait for at once."""

    def to_representation(self, data: Any) -> list[Any]:
        rows = list(data)
        self.waits = waits_of(rows)
        return super().to_representation(rows)


class DeviceDeploymentResponse(serializers.ModelSerializer[DeviceDeployment]):
    """One device deployment. `message` is the end of what the device reported, at most 4 KiB."""

    device = serializers.UUIDField(source="device_id")
    device_name = serializers.CharField(source="device.name")
    phase = serializers.IntegerField(
        source="phase.number", allow_null=True, default=None, help_text="The phase that admitted the device."
    )
    late_state = serializers.CharField(help_text="The state that the device reported last after the end.")
    late_outcome = serializers.SerializerMethodField()
    waiting_for = serializers.SerializerMethodField()

    class Meta:
        model = DeviceDeployment
        list_serializer_class = DeviceDeploymentList
        fields = [
            "device",
            "device_name",
            "phase",
            "state",
            "attempt",
            "failures",
            "retry_at",
            "waiting_for",
            "reason_code",
            "message",
            "bytes_done",
            "bytes_total",
            "timings",
            "reached_at",
            "late_state",
            "late_outcome",
            "observation_ends_at",
            "offered_at",
            "state_changed_at",
            "deadline_at",
            "finished_at",
        ]
        read_only_fields = fields

    @extend_schema_field(LateOutcome(allow_null=True))
    def get_late_outcome(self, row: DeviceDeployment) -> dict[str, Any] | None:
        if row.late_at is None:
            return None
        return LateOutcome({"reason_code": row.late_reason_code, "message": row.late_message, "at": row.late_at}).data

    @extend_schema_field(WaitResponse(allow_null=True))
    def get_waiting_for(self, row: DeviceDeployment) -> dict[str, Any] | None:
        """What the device deployment waits for; null after its end."""
        wait = self.parent.waits.get(row.pk) if isinstance(self.parent, DeviceDeploymentList) else None
        return None if wait is None else WaitResponse(wait).data


def deployment_responses(deployments: list[Deployment]) -> list[Any]:
    """Return the responses for these deployments. Eight queries at most, however many there are."""
    prefetch_related_objects(deployments, "phases")
    phases = [phase for deployment in deployments for phase in deployment.phases.all()]
    observing = refresh_observation(deployments)
    unfinished = [deployment for deployment in deployments if deployment.finished_at is None]
    context = {
        "next_steps": {each.deployment.pk: next_step(each) for each in survey(unfinished)} if unfinished else {},
        "counts": counts_of(deployments),
        "observing": observing,
        "phase_counts": counts_of_phases(phases) if phases else {},
    }
    return list(DeploymentResponse(deployments, many=True, context=context).data)
