"""The messages of the operators' endpoints."""

from typing import Any

from rest_framework import serializers

from devices.models import Device, DeviceState, EnrolmentToken, Group, HeartbeatSample, is_label
from foundation.api.serializers import StrictSerializer

YEAR_SECONDS = 31_536_000
MAX_TAGS = 32

NO_GROUP: dict[str, Any] = {"does_not_exist": "There is no group `{value}`: make it first."}


class GroupAnswer(serializers.ModelSerializer[Group]):
    class Meta:
        model = Group
        fields = ["name", "description", "interval_seconds", "created_at"]
        read_only_fields = fields


class GroupRequest(StrictSerializer):
    name = serializers.CharField(validators=[is_label])
    description = serializers.CharField(max_length=500, allow_blank=True, required=False)
    interval_seconds = serializers.IntegerField(min_value=1, max_value=86_400, required=False)


class DeviceFilter(serializers.Serializer[Any]):
    """`q` is looked for in names, ids and device types."""

    state = serializers.ChoiceField(DeviceState.choices, required=False)
    group = serializers.CharField(required=False)
    online = serializers.BooleanField(required=False, allow_null=True, default=None)
    tag = serializers.CharField(required=False)
    q = serializers.CharField(max_length=100, required=False)


class DeviceAnswer(serializers.ModelSerializer[Device]):
    """One device in a list."""

    group = serializers.CharField(source="group.name")
    online = serializers.BooleanField(source="is_online")

    class Meta:
        model = Device
        fields = [
            "id",
            "name",
            "state",
            "group",
            "tags",
            "online",
            "last_heartbeat_at",
            "device_type",
            "agent_version",
            "status",
            "running_bundles",
            "registered_at",
        ]
        read_only_fields = fields


class DeviceDetail(DeviceAnswer):
    """`cloned`: two machines seem to use the device's key."""

    interval_seconds = serializers.IntegerField(source="group.interval_seconds")
    cloned = serializers.BooleanField(source="is_cloned")

    class Meta(DeviceAnswer.Meta):
        fields = [
            *DeviceAnswer.Meta.fields,
            "public_key",
            "interval_seconds",
            "accepted_at",
            "decommissioned_at",
            "hardware",
            "attributes",
            "attributes_version",
            "metrics",
            "running_changed_at",
            "boot_id",
            "cloned",
        ]
        read_only_fields = fields


class DevicePatch(StrictSerializer):
    name = serializers.CharField(max_length=100, allow_blank=True, required=False)
    tags = serializers.ListField(
        child=serializers.CharField(validators=[is_label]), max_length=MAX_TAGS, required=False
    )
    group = serializers.SlugRelatedField(
        slug_field="name", queryset=Group.objects.all(), required=False, error_messages=NO_GROUP
    )

    def validate_tags(self, tags: list[str]) -> list[str]:
        """A tag stands once, and in order."""
        return sorted(set(tags))


class SampleAnswer(serializers.ModelSerializer[HeartbeatSample]):
    class Meta:
        model = HeartbeatSample
        fields = ["at", "status", "metrics"]
        read_only_fields = fields


class EnrolmentTokenAnswer(serializers.ModelSerializer[EnrolmentToken]):
    group = serializers.CharField(source="group.name")

    class Meta:
        model = EnrolmentToken
        fields = [
            "id",
            "name",
            "group",
            "accepts_at_once",
            "uses_allowed",
            "uses",
            "expires_at",
            "revoked_at",
            "created_at",
        ]
        read_only_fields = fields


class NewEnrolmentToken(EnrolmentTokenAnswer):
    """`token` is shown in this answer alone."""

    token = serializers.CharField()

    class Meta(EnrolmentTokenAnswer.Meta):
        fields = [*EnrolmentTokenAnswer.Meta.fields, "token"]
        read_only_fields = fields


class EnrolmentTokenRequest(StrictSerializer):
    name = serializers.CharField(max_length=100)
    group = serializers.SlugRelatedField(slug_field="name", queryset=Group.objects.all(), error_messages=NO_GROUP)
    uses_allowed = serializers.IntegerField(min_value=1, max_value=1_000_000, default=1)
    expires_in_seconds = serializers.IntegerField(min_value=1, max_value=YEAR_SECONDS, default=86_400)
    accepts_at_once = serializers.BooleanField(default=False)
