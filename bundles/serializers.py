"""The request and response bodies of the publishers' endpoints."""

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from bundles.identifiers import ANCHORED_NAME_PATTERN, ANCHORED_SHA256_PATTERN, SHA256_LENGTH
from bundles.manifest import MAX_NUMBER
from bundles.missing_blobs import MissingBlob, missing_blobs
from bundles.models import BEFORE_READY, Bundle, BundleState, Upload, UploadPart, UploadState
from bundles.uploads.part_transport import part_transport
from foundation.api.serializers import StrictSerializer

# The maximum number of parts, and so of presigned URLs, in one request: few enough to use them all in 15 minutes.
MAX_PARTS = 100
MD5_PATTERN = r"^[0-9a-f]{32}$"


class BlobEntry(StrictSerializer):
    sha256 = serializers.RegexField(ANCHORED_SHA256_PATTERN, max_length=SHA256_LENGTH, trim_whitespace=False)
    size = serializers.IntegerField(min_value=0, max_value=MAX_NUMBER)


class DeclaredPart(StrictSerializer):
    """A part to be sent. S3 compares the bytes it receives with `md5`, 32 hex digits."""

    number = serializers.IntegerField(min_value=1, max_value=1_000_000)
    sha256 = serializers.RegexField(ANCHORED_SHA256_PATTERN, max_length=SHA256_LENGTH, trim_whitespace=False)
    md5 = serializers.RegexField(MD5_PATTERN, max_length=32, trim_whitespace=False)


class PartURLsRequest(StrictSerializer):
    parts = serializers.ListField(child=DeclaredPart(), min_length=1, max_length=MAX_PARTS)


class UploadRequest(BlobEntry):
    """`parts` are the parts to be sent first. The response has their presigned URLs."""

    parts = serializers.ListField(child=DeclaredPart(), required=False, default=list, max_length=MAX_PARTS)


class DraftRequest(StrictSerializer):
    manifest = serializers.JSONField()


class BundleFilter(serializers.Serializer[Any]):
    name = serializers.RegexField(ANCHORED_NAME_PATTERN, required=False)
    state = serializers.ChoiceField(BundleState.choices, required=False)


class BundleResponse(serializers.ModelSerializer[Bundle]):
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


class BundleDetail(BundleResponse):
    """`missing` lists the blobs that are not stored yet. It is empty once the bundle is ready or withdrawn."""

    missing = serializers.SerializerMethodField()

    class Meta(BundleResponse.Meta):
        fields = [*BundleResponse.Meta.fields, "missing"]
        read_only_fields = fields

    @extend_schema_field(BlobEntry(many=True))
    def get_missing(self, bundle: Bundle) -> list[dict[str, Any]]:
        missing: list[MissingBlob] = missing_blobs(bundle) if bundle.state in BEFORE_READY else []
        return [asdict(blob) for blob in missing]


class PartResponse(serializers.ModelSerializer[UploadPart]):
    class Meta:
        model = UploadPart
        fields = ["number", "sha256", "size"]
        read_only_fields = fields


class PartURLResponse(serializers.Serializer[Any]):
    """PUT the part's bytes to `url` with these headers and without credentials."""

    number = serializers.IntegerField()
    url = serializers.URLField()
    headers = serializers.DictField(child=serializers.CharField())


class PartURLsResponse(serializers.Serializer[Any]):
    addresses = PartURLResponse(many=True)


class UploadResponse(serializers.ModelSerializer[Upload]):
    """`id` is null when the blob is stored already and nothing has to be sent.

    If `direct` is true, parts are not sent to the API but PUT to presigned URLs of the storage.
    """

    id = serializers.UUIDField(allow_null=True, read_only=True)
    parts = serializers.SerializerMethodField()
    direct = serializers.SerializerMethodField()

    class Meta:
        model = Upload
        fields = ["id", "state", "state_reason", "part_size", "size", "parts", "direct"]
        read_only_fields = fields

    @extend_schema_field(PartResponse(many=True))
    def get_parts(self, upload: Upload) -> Any:
        return PartResponse(part_transport().arrived_parts(upload), many=True).data

    def get_direct(self, upload: Upload) -> bool:
        return part_transport().is_direct


class StartedUpload(UploadResponse):
    """`addresses` has the presigned URLs of the parts that the request named."""

    addresses = PartURLResponse(many=True, read_only=True)

    class Meta(UploadResponse.Meta):
        fields = [*UploadResponse.Meta.fields, "addresses"]
        read_only_fields = fields


class UploadStateResponse(serializers.Serializer[Any]):
    state = serializers.ChoiceField(UploadState.choices)
