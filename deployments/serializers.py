"""Requests and responses of the operators' endpoints."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from deployments.definition import MAX_DEVICES
from deployments.models import Deployment, DeploymentState, DeviceDeployment, DeviceDeploymentState
from deployments.models.device_deployment import StateCounts
from foundation.api.serializers import StrictSerializer

YEAR_SECONDS = 31_536_000
MAX_GROUPS = 1000


class DeploymentRequest(StrictSerializer):
    """`bundle` is `name@version`. At least one device or group is required."""

    bundle = serializers.CharField(max_length=127)
    groups = serializers.ListField(child=serializers.CharField(max_length=100), max_length=MAX_GROUPS, required=False)
    devices = serializers.ListField(child=serializers.UUIDField(), max_length=MAX_DEVICES, required=False)
    deadline_seconds = serializers.IntegerField(min_value=10, max_value=YEAR_SECONDS, required=False)
    note = serializers.CharField(max_length=500, allow_blank=True, required=False)


class DeploymentFilter(serializers.Serializer[Any]):
    """`bundle` is a bundle's name, or `name@version`."""

    state = serializers.ChoiceField(DeploymentState.choices, required=False)
    bundle = serializers.CharField(max_length=127, required=False)


class Counts(serializers.Serializer[Any]):
    """How many device deployments are in which state."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {state: serializers.IntegerField() for state in DeviceDeploymentState.values}


class Skipped(serializers.Serializer[Any]):
    """How many chosen devices are not part of the deployment. The numbers grow while it is `planning`."""

    not_accepted = serializers.IntegerField()
    wrong_device_type = serializers.IntegerField()


class DeploymentAnswer(serializers.ModelSerializer[Deployment]):
    """One deployment. The serializer's context holds `counts`; see `counts_of`."""

    bundle = serializers.StringRelatedField[Any]()
    counts = serializers.SerializerMethodField()
    skipped = Skipped()
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
            "counts",
            "skipped",
            "note",
            "deadline_seconds",
            "created_at",
            "cancelled_at",
            "finished_at",
        ]
        read_only_fields = fields

    @extend_schema_field(Counts)
    def get_counts(self, deployment: Deployment) -> dict[str, int]:
        counts: StateCounts = self.context["counts"][deployment.pk]
        return {state: counts.get(state, 0) for state in DeviceDeploymentState.values}


class DeviceDeploymentFilter(serializers.Serializer[Any]):
    state = serializers.ChoiceField(DeviceDeploymentState.choices, required=False)


class DeviceDeploymentAnswer(serializers.ModelSerializer[DeviceDeployment]):
    """One device deployment. `message` is the end of what the device reported, at most 4 KiB."""

    device = serializers.UUIDField(source="device_id")
    device_name = serializers.CharField(source="device.name")
    late_state = serializers.CharField(help_text="What the device reported after the end. It changes nothing.")

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
            "offered_at",
            "state_changed_at",
            "deadline_at",
            "finished_at",
        ]
        read_only_fields = fields


def counts_of(deployments: list[Deployment]) -> dict[UUID, StateCounts]:
    """Return the counts of each deployment. One query for all that have not finished."""
    unfinished = [deployment.pk for deployment in deployments if deployment.finished_at is None]
    counts = DeviceDeployment.objects.filter(deployment__in=unfinished).counts() if unfinished else {}
    for deployment in deployments:
        if deployment.finished_at is not None:
            counts[deployment.pk] = deployment.final_counts
    return {deployment.pk: counts.get(deployment.pk, {}) for deployment in deployments}
