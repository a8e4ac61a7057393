"""The JSON of the events' endpoint."""

from typing import Any

from rest_framework import serializers

from foundation.events.models import Event


class EventFilter(serializers.Serializer[Any]):
    """The query parameters of the list. `kind` is a complete kind, such as `device.registered`."""

    device = serializers.UUIDField(required=False)
    deployment = serializers.UUIDField(required=False)
    kind = serializers.CharField(required=False, max_length=64)


class EventResponse(serializers.ModelSerializer[Event]):
    class Meta:
        model = Event
        fields = ["id", "at", "kind", "actor", "message", "device_id", "bundle_id", "deployment_id", "data"]
        read_only_fields = fields
