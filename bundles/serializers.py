"""The messages of the publisher's endpoints."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from bundles.manifest import MAX_NUMBER
from bundles.models import NAME_PATTERN, SHA256_PATTERN, Bundle, BundleState, Upload, UploadPart, UploadState
from bundles.publishing import blobs_of

UNDECIDED = {BundleState.DRAFT, BundleState.VERIFYING}


class BlobLine(serializers.Serializer[Any]):
    sha256 = serializers.RegexField(SHA256_PATTERN, max_length=64, trim_whitespace=False)
    size = serializers.IntegerField(min_value=0, max_value=MAX_NUMBER)


class DraftRequest(serializers.Serializer[Any]):
    manifest = serializers.JSONField()


class BundleFilter(serializers.Serializer[Any]):
    name = serializers.RegexField(NAME_PATTERN, required=False)
    state = serializers.ChoiceField(BundleState.choices, required=False)


class BundleAnswer(serializers.ModelSerializer[Bundle]):
    class Meta:
        model = Bundle
        fields = [
            "id",
            "name",
            "version",
            "state",
            "state_reason",
            "size",
            "file_count",
            "manifest_sha256",
            "manifest_size",
            "device_types",
            "created_at",
            "ready_at",
            "withdrawn_at",
        ]
        read_only_fields = fields


class BundleDetail(BundleAnswer):
    """`missing`: blobs that are not stored yet, while the bundle is a draft or verifying."""

    missing = serializers.SerializerMethodField()

    class Meta(BundleAnswer.Meta):
        fields = [*BundleAnswer.Meta.fields, "missing"]
        read_only_fields = fields

    @extend_schema_field(BlobLine(many=True))
    def get_missing(self, bundle: Bundle) -> list[dict[str, Any]]:
        return blobs_of(bundle.files.missing()) if bundle.state in UNDECIDED else []


class PartAnswer(serializers.ModelSerializer[UploadPart]):
    class Meta:
        model = UploadPart
        fields = ["number", "sha256", "size"]
        read_only_fields = fields


class UploadAnswer(serializers.ModelSerializer[Upload]):
    """`id` is null when the blob is stored already and nothing has to be sent."""

    id = serializers.UUIDField(allow_null=True, read_only=True)
    parts = PartAnswer(many=True, read_only=True)

    class Meta:
        model = Upload
        fields = ["id", "state", "state_reason", "part_size", "size", "parts"]
        read_only_fields = fields


class UploadStateAnswer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(UploadState.choices)
