"""The responses of the endpoints of previews."""

from typing import Any

from rest_framework import serializers

from deployments.models import Preview
from deployments.previews.counting import SILENCES
from deployments.previews.outlook import Outlook, PhasePreview, Transfer
from deployments.serializers import Skipped


class SampleDevice(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()


class PhasePreviewResponse(serializers.Serializer[PhasePreview]):
    """What one phase would hold. `device_count` is cumulative; `devices` is how many this phase adds."""

    number = serializers.IntegerField()
    device_count = serializers.IntegerField()
    devices = serializers.IntegerField()
    strata = serializers.DictField(child=serializers.IntegerField(), help_text="How many of each stratum it adds.")
    tolerated = serializers.IntegerField(help_text="How many of its devices may fail before it trips.")
    soak_seconds = serializers.IntegerField()
    manual_gate = serializers.BooleanField()


class TransferResponse(serializers.Serializer[Transfer]):
    """What each device that runs this version has to download. An empty version: none, or an unknown one."""

    running = serializers.CharField()
    devices = serializers.IntegerField()
    bytes = serializers.IntegerField()


class Silences(serializers.Serializer[Any]):
    """How many devices are reachable, and for how long the others have been silent."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {silence: serializers.IntegerField() for silence in SILENCES}


class OutlookResponse(serializers.Serializer[Outlook]):
    """What the deployment would do. The numbers grow while the preview is `computing`."""

    visited = serializers.IntegerField(help_text="How many devices were visited so far.")
    device_count = serializers.IntegerField(help_text="How many devices would take part.")
    skipped = Skipped()
    samples = serializers.DictField(
        child=SampleDevice(many=True), help_text="Some devices for each reason; an empty reason: they take part."
    )
    phases = PhasePreviewResponse(many=True)
    strata = serializers.DictField(child=serializers.IntegerField())
    silences = Silences()
    transfers = TransferResponse(many=True)
    total_bytes = serializers.IntegerField()
    expected_seconds = serializers.IntegerField(
        allow_null=True, help_text="Estimated from the last deployments of the product."
    )


class PreviewResponse(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    bundle = serializers.CharField()
    state = serializers.ChoiceField(["computing", "ready", "failed"])
    reason_code = serializers.CharField(help_text="`query_failed` if the state is `failed`, or empty.")
    created_at = serializers.DateTimeField()
    outlook = OutlookResponse()


def preview_body(preview: Preview, outlook: Outlook) -> Any:
    """Return the response for a preview."""
    body = {
        "id": preview.pk,
        "bundle": str(preview.bundle),
        "state": preview.state,
        "reason_code": preview.reason_code,
        "created_at": preview.created_at,
        "outlook": outlook,
    }
    return PreviewResponse(body).data
