"""Requests and responses of the device endpoints."""

from typing import Any

from rest_framework import serializers

from deployments.reports import TIMINGS
from deployments.states import REPORTED_CHOICES, DeviceDeploymentState

MAX_NUMBER = 2**31 - 1
MAX_SIZE = 2**63 - 1
MAX_MESSAGE_SIZE = 4096
MAX_SECONDS = 1e9


class Progress(serializers.Serializer[Any]):
    bytes_done = serializers.IntegerField(min_value=0, max_value=MAX_SIZE)
    bytes_total = serializers.IntegerField(min_value=0, max_value=MAX_SIZE)


class Timings(serializers.Serializer[Any]):
    """Seconds. Other names are ignored, so that a row cannot grow without limit."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {name: serializers.FloatField(min_value=0, max_value=MAX_SECONDS, required=False) for name in TIMINGS}


class ResultRequest(serializers.Serializer[Any]):
    """`report` is the report's number within `attempt`. Of `message`, the last 4 KiB of UTF-8 are kept."""

    attempt = serializers.IntegerField(min_value=1, max_value=32_767)
    report = serializers.IntegerField(min_value=1, max_value=MAX_NUMBER)
    state = serializers.ChoiceField(REPORTED_CHOICES)
    reason_code = serializers.RegexField(r"^[a-z0-9_]{0,64}\Z", allow_blank=True, default="")
    message = serializers.CharField(allow_blank=True, default="", trim_whitespace=False)
    progress = Progress(required=False)
    timings = Timings(required=False)

    def validate_message(self, message: str) -> str:
        return message.encode()[-MAX_MESSAGE_SIZE:].decode(errors="ignore")


class ResultResponse(serializers.Serializer[Any]):
    """The server's state of the device deployment."""

    state = serializers.ChoiceField(DeviceDeploymentState.choices)
