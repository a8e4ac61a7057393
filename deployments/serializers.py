"""Requests and responses of the operators' endpoints."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from deployments.definition import MAX_DEVICES
from deployments.models import Deployment, DeploymentState, DeviceDeployment
from deployments.models.device_deployment import StateCounts
from deployments.progress import counts_of, outcome_of, refresh_observation
from deployments.states import RESULTS, DeploymentOutcome
from foundation.api.serializers import StrictSerializer
from foundation.queries.lexer import MAX_QUERY_SIZE

YEAR_SECONDS = 31_536_000
MAX_OBSERVATION_SECONDS = 30 * 86_400
MAX_GROUPS = 1000


class DeploymentRequest(StrictSerializer):
    """`bundle` is `name@version`. At least one device or group is required."""

    bundle = serializers.CharField(max_length=127)
    groups = serializers.ListField(child=serializers.CharField(max_length=100), max_length=MAX_GROUPS, required=False)
    devices = serializers.ListField(child=serializers.UUIDField(), max_length=MAX_DEVICES, required=False)
    query = serializers.CharField(
        max_length=MAX_QUERY_SIZE, allow_blank=True, required=False, help_text="Further devices; see docs/queries.md."
    )
    exclude = serializers.CharField(
        max_length=MAX_QUERY_SIZE, allow_blank=True, required=False, help_text="A query for devices to leave out."
    )
    deadline_seconds = serializers.IntegerField(min_value=10, max_value=YEAR_SECONDS, required=False)
    observation_seconds = serializers.IntegerField(
        min_value=0, max_value=MAX_OBSERVATION_SECONDS, required=False,
        help_text="How long a success is observed; it fails late if the device turns unhealthy or rolls back.",
    )  # fmt: skip
    unhealthy_seconds = serializers.IntegerField(
        min_value=0, max_value=MAX_OBSERVATION_SECONDS, required=False,
        help_text="How long the bundle may be unhealthy while it is observed.",
    )  # fmt: skip
    note = serializers.CharField(max_length=500, allow_blank=True, required=False)


class DeploymentFilter(serializers.Serializer[Any]):
    """`bundle` is a bundle's name, or `name@version`."""

    state = serializers.ChoiceField(DeploymentState.choices, required=False)
    bundle = serializers.CharField(max_length=127, required=False)


class Counts(serializers.Serializer[Any]):
    """How many device deployments are in which state. A success that failed late counts as `failed_late` only."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {result: serializers.IntegerField() for result in RESULTS}


class Skipped(serializers.Serializer[Any]):
    """How many chosen devices are not part of the deployment. The numbers grow while it is `planning`."""

    not_accepted = serializers.IntegerField()
    wrong_device_type = serializers.IntegerField()
    excluded = serializers.IntegerField()


class DeploymentAnswer(serializers.ModelSerializer[Deployment]):
    """One deployment. Build it with `deployment_responses`."""

    bundle = serializers.StringRelatedField[Any]()
    outcome = serializers.SerializerMethodField()
    counts = serializers.SerializerMethodField()
    observing = serializers.SerializerMethodField()
    skipped = Skipped(source="skipped_counts")
    reason_code = serializers.CharField(
        help_text="Why the deployment ended before any device took part: `no_devices`, `bundle_withdrawn`, or empty."
    )

    class Meta:
        model = Deployment
        fields = [
            "id",
            "bundle",
            "state",
            "reason_code",
            "outcome",
            "counts",
            "observing",
            "skipped",
            "note",
            "deadline_seconds",
            "observation_seconds",
            "unhealthy_seconds",
            "created_at",
            "cancelled_at",
            "finished_at",
        ]
        read_only_fields = fields

    @extend_schema_field(Counts)
    def get_counts(self, deployment: Deployment) -> dict[str, int]:
        counts: StateCounts = self.context["counts"][deployment.pk]
        return {result: counts.get(result, 0) for result in RESULTS}

    @extend_schema_field(serializers.ChoiceField([*DeploymentOutcome.choices, ("", "not ended")]))
    def get_outcome(self, deployment: Deployment) -> str:
        """How the deployment ended. Empty until then. `succeeded` is final once `observing` is 0."""
        return outcome_of(deployment, self.context["counts"][deployment.pk])

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


class DeviceDeploymentAnswer(serializers.ModelSerializer[DeviceDeployment]):
    """One device deployment. `message` is the end of what the device reported, at most 4 KiB."""

    device = serializers.UUIDField(source="device_id")
    device_name = serializers.CharField(source="device.name")
    late_state = serializers.CharField(help_text="The state that the device reported last after the end.")
    late_outcome = serializers.SerializerMethodField()

    class Meta:
        model = DeviceDeployment
        fields = [
            "device",
            "device_name",
            "state",
            "attempt",
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


def deployment_responses(deployments: list[Deployment]) -> list[Any]:
    """Return the responses for these deployments. Three queries at most, however many there are."""
    observing = refresh_observation(deployments)
    context = {"counts": counts_of(deployments), "observing": observing}
    return list(DeploymentAnswer(deployments, many=True, context=context).data)
