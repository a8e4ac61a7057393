"""The messages of the device API. The heartbeat's are here for the schema only: it is read by hand."""

import json
from typing import Any

from rest_framework import serializers

from devices.models import CommandKind, DeviceState
from devices.signatures import PUBLIC_KEY_PATTERN

MAX_HARDWARE_SIZE = 16 * 1024
MAX_ATTRIBUTES_SIZE = 64 * 1024
NAME_PATTERN = r"\A[a-z0-9][a-z0-9._+-]{0,62}\Z"


class ObjectField(serializers.DictField):
    """A JSON object of bounded size, taken as it is."""

    def __init__(self, *, largest: int, **kwargs: Any) -> None:
        self.largest = largest
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> dict[Any, Any]:
        value = super().to_internal_value(data)
        if len(json.dumps(value, ensure_ascii=False, separators=(",", ":"))) > self.largest:
            raise serializers.ValidationError(f"This is longer than {self.largest} characters of JSON.")
        return value


class RegisterRequest(serializers.Serializer[Any]):
    token = serializers.CharField(max_length=200)
    public_key = serializers.RegexField(rf"\A{PUBLIC_KEY_PATTERN}\Z")
    device_type = serializers.RegexField(NAME_PATTERN)
    hardware = ObjectField(largest=MAX_HARDWARE_SIZE, default=dict)
    name = serializers.CharField(max_length=100, default="", allow_blank=True)


class RegisterAnswer(serializers.Serializer[Any]):
    device_id = serializers.UUIDField(source="id")
    state = serializers.ChoiceField(DeviceState.choices)
    interval_seconds = serializers.IntegerField(source="group.interval_seconds")


class AttributesRequest(serializers.Serializer[Any]):
    version = serializers.IntegerField(min_value=1, max_value=2**63 - 1)
    attributes = ObjectField(largest=MAX_ATTRIBUTES_SIZE)


class AttributesAnswer(serializers.Serializer[Any]):
    version = serializers.IntegerField()


class RunningBundle(serializers.Serializer[Any]):
    version = serializers.CharField()
    manifest_sha256 = serializers.CharField()
    healthy = serializers.BooleanField()
    verdict = serializers.DictField(required=False)


class HeartbeatRequest(serializers.Serializer[Any]):
    agent_version = serializers.CharField(max_length=64)
    boot_id = serializers.CharField(max_length=64)
    status = serializers.CharField(max_length=32)
    metrics = serializers.DictField(required=False)
    running_bundles = serializers.DictField(child=RunningBundle())
    acknowledged_commands = serializers.ListField(child=serializers.IntegerField(min_value=1), required=False)


class OfferedCommand(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.ChoiceField(CommandKind.choices)
    payload = serializers.DictField()


class HeartbeatAnswer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(DeviceState.choices)
    interval_seconds = serializers.IntegerField()
    commands = OfferedCommand(many=True)
