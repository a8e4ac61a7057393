"""The messages of the device API.

`HeartbeatRequest` is only for the schema: the heartbeat's view uses the fast reader in `heartbeat_message`, and a test
compares the two.
"""

import re
from typing import Any

from rest_framework import serializers

from devices.heartbeat_message import (
    MAX_ACKNOWLEDGED,
    MAX_BUNDLES,
    MAX_HEALTH_MESSAGE_LENGTH,
    MAX_ID,
    MAX_METRICS_SIZE,
    MAX_OUTCOMES,
    MAX_RESTARTS,
    MAX_VERDICT_SIZE,
    NAME_PATTERN,
    NUMBER_RANGE,
    SHA256_PATTERN,
    has_extreme_number,
    json_size,
)
from devices.models import CommandKind, CommandOutcome, DeviceState
from devices.models.command import MAX_OUTCOME_MESSAGE_LENGTH
from devices.models.log_request import MAX_BATCH_SIZE
from devices.signatures import PUBLIC_KEY_PATTERN

MAX_HARDWARE_SIZE = 16 * 1024
MAX_ATTRIBUTES_SIZE = 64 * 1024
_PRODUCT = re.compile(NAME_PATTERN)
LOG_SOURCE_PATTERN = f"agent|program:{NAME_PATTERN}|failed:{NAME_PATTERN}@{NAME_PATTERN}"


class ObjectField(serializers.DictField):
    """A JSON object of bounded size, stored as it is. `max_size` counts characters of compact JSON."""

    def __init__(self, *, max_size: int, **kwargs: Any) -> None:
        self.max_size = max_size
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> dict[Any, Any]:
        value = super().to_internal_value(data)
        if json_size(value) > self.max_size:
            raise serializers.ValidationError(f"This must be at most {self.max_size} characters of JSON.")
        return value


class ObjectOfExactNumbers(ObjectField):
    """A JSON object whose numbers are 0, or from `MIN_NUMBER` to `MAX_NUMBER` in magnitude."""

    def to_internal_value(self, data: Any) -> dict[Any, Any]:
        value = super().to_internal_value(data)
        if has_extreme_number(value):
            raise serializers.ValidationError(f"Numbers {NUMBER_RANGE}")
        return value


class ExactText(serializers.CharField):
    """A JSON string, stored as it is: numbers are not accepted, and white space stays."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if type(data) is not str:
            self.fail("invalid")
        return super().to_internal_value(data)


class ExactChoice(serializers.ChoiceField):
    """One of several JSON strings. Values of other types are not converted."""

    def to_internal_value(self, data: Any) -> Any:
        if type(data) is not str:
            self.fail("invalid_choice", input=data)
        return super().to_internal_value(data)


class ExactInteger(serializers.IntegerField):
    """A JSON integer: neither a string nor `1.0`."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return super().to_internal_value(data)


class ExactBoolean(serializers.BooleanField):
    """`true` or `false`, not a string or a number that stands for one of them."""

    def to_internal_value(self, data: Any) -> bool:
        if type(data) is not bool:
            self.fail("invalid", input=data)
        return data


class ExactRegex(serializers.RegexField):
    """A JSON string that matches `pattern` as a whole."""

    def __init__(self, pattern: str, **kwargs: Any) -> None:
        super().__init__(rf"\A(?:{pattern})\Z", trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if type(data) is not str:
            self.fail("invalid")
        return super().to_internal_value(data)


class RegisterRequest(serializers.Serializer[Any]):
    token = serializers.CharField(max_length=200)
    public_key = serializers.RegexField(rf"\A{PUBLIC_KEY_PATTERN}\Z")
    device_type = serializers.RegexField(rf"\A{NAME_PATTERN}\Z")
    hardware = ObjectOfExactNumbers(max_size=MAX_HARDWARE_SIZE, default=dict)
    name = serializers.CharField(max_length=100, default="", allow_blank=True)


class RegisterResponse(serializers.Serializer[Any]):
    device_id = serializers.UUIDField(source="id")
    state = serializers.ChoiceField(DeviceState.choices)
    interval_seconds = serializers.IntegerField(source="group.interval_seconds")


class AttributesRequest(serializers.Serializer[Any]):
    version = serializers.IntegerField(min_value=1, max_value=2**63 - 1)
    attributes = ObjectOfExactNumbers(max_size=MAX_ATTRIBUTES_SIZE)


class AttributesResponse(serializers.Serializer[Any]):
    version = serializers.IntegerField()


class RunningBundle(serializers.Serializer[Any]):
    version = ExactRegex(NAME_PATTERN)
    manifest_sha256 = ExactRegex(SHA256_PATTERN)
    healthy = ExactBoolean()
    restarts = ExactInteger(min_value=0, max_value=MAX_RESTARTS, required=False, allow_null=True)
    message = ExactText(max_length=MAX_HEALTH_MESSAGE_LENGTH, allow_blank=True, required=False, allow_null=True)
    verdict = ObjectOfExactNumbers(max_size=MAX_VERDICT_SIZE, required=False, allow_null=True)


class RunningBundles(serializers.DictField):
    """Running bundles by product."""

    child = RunningBundle()

    def to_internal_value(self, data: Any) -> dict[Any, Any]:
        if isinstance(data, dict) and (len(data) > MAX_BUNDLES or not all(map(_PRODUCT.fullmatch, data))):
            raise serializers.ValidationError(f"This must be an object with at most {MAX_BUNDLES} products.")
        return super().to_internal_value(data)


class ReportedOutcome(serializers.Serializer[Any]):
    id = ExactInteger(min_value=1, max_value=MAX_ID)
    outcome = ExactChoice(CommandOutcome.choices)
    message = ExactText(max_length=MAX_OUTCOME_MESSAGE_LENGTH, allow_blank=True, required=False)


class HeartbeatRequest(serializers.Serializer[Any]):
    agent_version = ExactText(max_length=64)
    boot_id = ExactText(max_length=64)
    status = ExactText(max_length=32)
    metrics = ObjectOfExactNumbers(max_size=MAX_METRICS_SIZE, required=False, allow_null=True)
    running_bundles = RunningBundles()
    acknowledged_commands = serializers.ListField(
        child=ExactInteger(min_value=1, max_value=MAX_ID), max_length=MAX_ACKNOWLEDGED, required=False, allow_null=True
    )
    command_outcomes = serializers.ListField(
        child=ReportedOutcome(), max_length=MAX_OUTCOMES, required=False, allow_null=True
    )


class OfferedCommand(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.ChoiceField(CommandKind.choices)
    payload = serializers.DictField()


class HeartbeatResponse(serializers.Serializer[Any]):
    state = serializers.ChoiceField(DeviceState.choices)
    interval_seconds = serializers.IntegerField()
    commands = OfferedCommand(many=True)


class LogBatchRequest(serializers.Serializer[Any]):
    """`text` is at most 64 KiB of UTF-8."""

    batch = ExactInteger(min_value=1, max_value=2**31 - 1)
    source = ExactRegex(LOG_SOURCE_PATTERN)  # type: ignore[assignment]  # DRF's fields have an attribute `source`
    text = ExactText(allow_blank=True)
    is_last = ExactBoolean()

    def validate_text(self, text: str) -> str:
        if len(text.encode()) > MAX_BATCH_SIZE:
            raise serializers.ValidationError(f"This must be at most {MAX_BATCH_SIZE} bytes of UTF-8.")
        return text


class LogBatchResponse(serializers.Serializer[Any]):
    next_batch = serializers.IntegerField()
