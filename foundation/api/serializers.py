"""Base classes of the serializers of the operators' endpoints."""

from collections.abc import Mapping
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework import serializers


class StrictSerializer(serializers.Serializer[Any]):
    """A JSON object without unknown fields: a misspelt one would otherwise be ignored silently."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(data.keys() - self.fields.keys()) if isinstance(data, Mapping) else []
        if unknown:
            message = f"This field is unknown. The valid fields are {', '.join(self.fields)}."
            raise serializers.ValidationError({name: [message] for name in unknown})
        return super().to_internal_value(data)


class StrictSerializerExtension(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """`additionalProperties: false` in the OpenAPI document."""

    target_class = StrictSerializer
    match_subclasses = True

    def map_serializer(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        mapped = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)  # type: ignore[no-untyped-call]
        return {**mapped, "additionalProperties": False}
