"""The messages of the operators' endpoints."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from deployments.models import Deployment, DeploymentState, DeviceDeployment, DeviceDeploymentState
from foundation.api.serializers import StrictSerializer

YEAR_SECONDS = 31_536_000
MAX_GROUPS = 1000
MAX_DEVICES = 10_000


class DeploymentRequest(StrictSerializer):
    """`bundle` is `name@version`; `devices` and `groups` together must name somebody."""

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
    """How many devices are in which state."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {state: serializers.IntegerField() for state in DeviceDeploymentState.values}


class Skipped(serializers.Serializer[Any]):
    not_accepted = serializers.IntegerField()
    wrong_device_type = serializers.IntegerField()


class DeploymentAnswer(serializers.ModelSerializer[Deployment]):
    """`skipped`: chosen devices that were left out. Its context holds `counts`: see `counts_of`."""

    bundle = serializers.StringRelatedField[Any]()
    counts = serializers.SerializerMethodField()
    skipped = Skipped()

    class Meta:
        model = Deployment
        fields = [
            "id",
            "bundle",
            "state",
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
        counted: dict[str, int] = self.context["counts"][deployment.pk]
        return {state: counted.get(state, 0) for state in DeviceDeploymentState.values}


class DeviceDeploymentFilter(serializers.Serializer[Any]):
    state = serializers.ChoiceField(DeviceDeploymentState.choices, required=False)


class DeviceDeploymentAnswer(serializers.ModelSerializer[DeviceDeployment]):
    """`late_state`: what the device claimed after its end, if anything; it changes nothing."""

    device = serializers.UUIDField(source="device_id")
    device_name = serializers.CharField(source="device.name")

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


def counts_of(deployments: list[Deployment]) -> dict[Any, dict[str, int]]:
    """The counts of each; one query for all that have not finished."""
    unfinished = [one.pk for one in deployments if one.finished_at is None]
    counted = DeviceDeployment.objects.filter(deployment__in=unfinished).counts() if unfinished else {}
    return {one.pk: counted.get(one.pk, {}) if one.finished_at is None else one.final_counts for one in deployments}
