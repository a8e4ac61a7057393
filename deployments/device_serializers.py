"""The messages of the device endpoints."""

from typing import Any

from rest_framework import serializers

from deployments.states import REPORTED, DeviceDeploymentState

MAX_NUMBER = 2**31 - 1
MAX_SIZE = 2**63 - 1
MAX_MESSAGE_SIZE = 4096
MAX_TIMINGS = 32
MAX_TIMING_NAME = 32


class Progress(serializers.Serializer[Any]):
    bytes_done = serializers.IntegerField(min_value=0, max_value=MAX_SIZE)
    bytes_total = serializers.IntegerField(min_value=0, max_value=MAX_SIZE)


class ResultRequest(serializers.Serializer[Any]):
    """`report` counts up within `attempt`; `message` is the tail of what was said, at most 4 KiB of UTF-8."""

    attempt = serializers.IntegerField(min_value=1, max_value=32_767)
    report = serializers.IntegerField(min_value=1, max_value=MAX_NUMBER)
    state = serializers.ChoiceField(REPORTED)
    reason_code = serializers.RegexField(r"^[a-z0-9_]{0,64}\Z", allow_blank=True, default="")
    message = serializers.CharField(allow_blank=True, default="", trim_whitespace=False)
    progress = Progress(required=False)
    timings = serializers.DictField(child=serializers.FloatField(min_value=0, max_value=1e9), required=False)

    def validate_message(self, message: str) -> str:
        if len(message.encode()) > MAX_MESSAGE_SIZE:
            raise serializers.ValidationError(f"At most {MAX_MESSAGE_SIZE} bytes.", code="max_length")
        return message

    def validate_timings(self, timings: dict[str, float]) -> dict[str, float]:
        if len(timings) > MAX_TIMINGS or any(len(name) > MAX_TIMING_NAME for name in timings):
            raise serializers.ValidationError(
                f"At most {MAX_TIMINGS} timings, with names of at most {MAX_TIMING_NAME} characters.", code="max_length"
            )
        return timings


class ResultAnswer(serializers.Serializer[Any]):
    """The state in which the server sees this device's deployment."""

    state = serializers.ChoiceField(DeviceDeploymentState.choices)
