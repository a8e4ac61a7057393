"""The messages of the operators' endpoints."""

from typing import Any

from django.db.models import TextChoices
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from devices.dynamic_groups import check_group_query, device_count
from devices.models import (
    Command,
    CommandOutcome,
    CommandState,
    Device,
    DeviceState,
    EnrolmentToken,
    Group,
    Health,
    HeartbeatSample,
    LogRequest,
    is_label,
)
from devices.models.log_request import MAX_LOG_SIZE, MIN_LOG_SIZE
from foundation.api.serializers import StrictSerializer
from foundation.queries.lexer import MAX_QUERY_SIZE

YEAR_SECONDS = 31_536_000
MAX_TAGS = 32

NO_GROUP: dict[str, Any] = {"does_not_exist": "The static group `{value}` does not exist: create it first."}


class GroupResponse(serializers.ModelSerializer[Group]):
    """`query` is empty for a static group. `interval_seconds` is null for a dynamic one."""

    interval_seconds = serializers.SerializerMethodField()

    class Meta:
        model = Group
        fields = ["name", "description", "query", "interval_seconds", "created_at"]
        read_only_fields = fields

    @extend_schema_field(serializers.IntegerField(allow_null=True))
    def get_interval_seconds(self, group: Group) -> int | None:
        return None if group.is_dynamic else group.interval_seconds


class GroupDetail(GroupResponse):
    """One group with the number of its pending and accepted devices."""

    device_count = serializers.SerializerMethodField()

    class Meta(GroupResponse.Meta):
        fields = [*GroupResponse.Meta.fields, "device_count"]
        read_only_fields = fields

    @extend_schema_field(
        serializers.IntegerField(allow_null=True, help_text="Null if counting takes more than two seconds.")
    )
    def get_device_count(self, group: Group) -> int | None:
        return device_count(group)


class GroupRequest(StrictSerializer):
    name = serializers.CharField(validators=[is_label])
    description = serializers.CharField(max_length=500, allow_blank=True, required=False)
    query = serializers.CharField(
        max_length=MAX_QUERY_SIZE, required=False, help_text="Makes the group dynamic; see docs/queries.md."
    )
    interval_seconds = serializers.IntegerField(min_value=1, max_value=86_400, required=False)

    def validate_query(self, query: str) -> str:
        """Return the query. Raises `BadRequest` (`invalid_query`)."""
        check_group_query(query)
        return query

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        is_dynamic = "query" in attrs or (self.instance is not None and self.instance.is_dynamic)
        if is_dynamic and "interval_seconds" in attrs:
            message = "A dynamic group has no interval: the devices' static groups set it."
            raise serializers.ValidationError({"interval_seconds": [message]})
        return attrs


class DeviceFilter(serializers.Serializer[Any]):
    """The filters of the list of devices. All that are given must match."""

    state = serializers.ChoiceField(DeviceState.choices, required=False)
    group = serializers.CharField(required=False)
    online = serializers.BooleanField(required=False, allow_null=True, default=None)
    health = serializers.ChoiceField(Health.choices, required=False)
    tag = serializers.CharField(required=False)
    q = serializers.CharField(max_length=MAX_QUERY_SIZE, required=False, help_text="A query; see docs/queries.md.")


class ExportFormat(TextChoices):
    CSV = "csv", "CSV"
    JSON_LINES = "jsonl", "JSON lines"


class DeviceExportFilter(DeviceFilter):
    """The format of an export of devices, and which devices it contains."""

    format = serializers.ChoiceField(ExportFormat.choices)


class DeviceResponse(serializers.ModelSerializer[Device]):
    """One device in a list."""

    group = serializers.CharField(source="group.name")
    test = serializers.BooleanField(source="is_test", help_text="Whether it is outside of the fleet's statistics.")
    online = serializers.BooleanField(source="is_online")
    health = serializers.ChoiceField(
        Health.choices, help_text="As the last heartbeat describes it; `unknown` while the device is not online."
    )

    class Meta:
        model = Device
        fields = [
            "id",
            "name",
            "state",
            "group",
            "tags",
            "test",
            "online",
            "health",
            "health_changed_at",
            "last_heartbeat_at",
            "device_type",
            "agent_version",
            "status",
            "running_bundles",
            "registered_at",
        ]
        read_only_fields = fields


class ExportedDevice(DeviceResponse):
    """One device in an export, as it is at the time `now` of the context."""

    def to_representation(self, instance: Device) -> dict[str, object]:
        now = self.context["now"]
        current = {"online": instance.is_online_at(now), "health": instance.health_at(now).value}
        return {**super().to_representation(instance), **current}


class DeviceDetail(DeviceResponse):
    """`cloned`: two machines seem to use the device's key."""

    interval_seconds = serializers.IntegerField(source="group.interval_seconds")
    cloned = serializers.BooleanField(source="is_cloned")

    class Meta(DeviceResponse.Meta):
        fields = [
            *DeviceResponse.Meta.fields,
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
    test = serializers.BooleanField(source="is_test", required=False)
    group = serializers.SlugRelatedField(
        slug_field="name", queryset=Group.objects.static(), required=False, error_messages=NO_GROUP
    )

    def validate_tags(self, tags: list[str]) -> list[str]:
        """Return the tags sorted, each once."""
        return sorted(set(tags))


class HeartbeatSampleResponse(serializers.ModelSerializer[HeartbeatSample]):
    class Meta:
        model = HeartbeatSample
        fields = ["at", "status", "metrics"]
        read_only_fields = fields


class CommandResponse(serializers.ModelSerializer[Command]):
    """A command and how it ended. `outcome` is empty until the device reports one."""

    state = serializers.ChoiceField(CommandState.choices, read_only=True)
    outcome = serializers.ChoiceField([("", ""), *CommandOutcome.choices], read_only=True)

    class Meta:
        model = Command
        fields = [
            "id",
            "kind",
            "state",
            "created_at",
            "acknowledged_at",
            "withdrawn_at",
            "ended_at",
            "outcome",
            "outcome_message",
        ]
        read_only_fields = fields


class LogRequestRequest(StrictSerializer):
    """`max_size` is in bytes; the default is the setting `LOG_MAX_SIZE`."""

    max_size = serializers.IntegerField(min_value=MIN_LOG_SIZE, max_value=MAX_LOG_SIZE, required=False)


class LogRequestResponse(serializers.ModelSerializer[LogRequest]):
    """`size` counts the bytes that have arrived. `reason` says why the request failed or expired."""

    device_id = serializers.UUIDField(read_only=True)

    class Meta:
        model = LogRequest
        fields = [
            "id",
            "device_id",
            "state",
            "reason",
            "max_size",
            "size",
            "batches",
            "created_at",
            "created_by",
            "finished_at",
            "expires_at",
        ]
        read_only_fields = fields


class EnrolmentTokenResponse(serializers.ModelSerializer[EnrolmentToken]):
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


class NewEnrolmentToken(EnrolmentTokenResponse):
    """`token` is only in this response."""

    token = serializers.CharField()

    class Meta(EnrolmentTokenResponse.Meta):
        fields = [*EnrolmentTokenResponse.Meta.fields, "token"]
        read_only_fields = fields


class EnrolmentTokenRequest(StrictSerializer):
    name = serializers.CharField(max_length=100)
    group = serializers.SlugRelatedField(slug_field="name", queryset=Group.objects.static(), error_messages=NO_GROUP)
    uses_allowed = serializers.IntegerField(min_value=1, max_value=1_000_000, default=1)
    expires_in_seconds = serializers.IntegerField(min_value=1, max_value=YEAR_SECONDS, default=86_400)
    accepts_at_once = serializers.BooleanField(default=False)
