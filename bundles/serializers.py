"""The messages of the publisher's endpoints."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from bundles.manifest import MAX_NUMBER
from bundles.missing import missing_blobs
from bundles.models import NAME_PATTERN, SHA256_PATTERN, UNDECIDED, Bundle, BundleState, Upload, UploadPart, UploadState
from bundles.storage.interface import blobs
from bundles.uploads.presigned_parts import arrived_parts
from foundation.api.serializers import StrictSerializer

# How many addresses are answered at once; each holds for 15 minutes.
MOST_PARTS = 100
MD5_PATTERN = r"^[0-9a-f]{32}$"


class BlobLine(StrictSerializer):
    sha256 = serializers.RegexField(SHA256_PATTERN, max_length=64, trim_whitespace=False)
    size = serializers.IntegerField(min_value=0, max_value=MAX_NUMBER)


class PartLine(StrictSerializer):
    """A part that is to be sent. `md5` is what S3 compares the arriving bytes with; 32 hex digits."""

    number = serializers.IntegerField(min_value=1, max_value=1_000_000)
    sha256 = serializers.RegexField(SHA256_PATTERN, max_length=64, trim_whitespace=False)
    md5 = serializers.RegexField(MD5_PATTERN, max_length=32, trim_whitespace=False)


class PartLines(StrictSerializer):
    parts = serializers.ListField(child=PartLine(), min_length=1, max_length=MOST_PARTS)


class UploadRequest(BlobLine):
    """`parts`: those that will be sent first; where they go is then answered at once."""

    parts = serializers.ListField(child=PartLine(), required=False, default=list, max_length=MOST_PARTS)


class DraftRequest(StrictSerializer):
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
        return missing_blobs(bundle) if bundle.state in UNDECIDED else []


class PartAnswer(serializers.ModelSerializer[UploadPart]):
    class Meta:
        model = UploadPart
        fields = ["number", "sha256", "size"]
        read_only_fields = fields


class AddressAnswer(serializers.Serializer[Any]):
    """PUT the part's bytes to `url` with these headers, without any credentials."""

    number = serializers.IntegerField()
    url = serializers.URLField()
    headers = serializers.DictField(child=serializers.CharField())


class AddressesAnswer(serializers.Serializer[Any]):
    addresses = AddressAnswer(many=True)


class UploadAnswer(serializers.ModelSerializer[Upload]):
    """`id` is null when the blob is stored already and nothing has to be sent.

    `direct`: parts are not sent here but PUT to addresses of the storage.
    """

    id = serializers.UUIDField(allow_null=True, read_only=True)
    parts = serializers.SerializerMethodField()
    direct = serializers.SerializerMethodField()

    class Meta:
        model = Upload
        fields = ["id", "state", "state_reason", "part_size", "size", "parts", "direct"]
        read_only_fields = fields

    @extend_schema_field(PartAnswer(many=True))
    def get_parts(self, upload: Upload) -> Any:
        return PartAnswer(arrived_parts(upload), many=True).data

    def get_direct(self, upload: Upload) -> bool:
        return blobs().direct is not None


class StartedUpload(UploadAnswer):
    """`addresses`: where the parts go that the request named."""

    addresses = AddressAnswer(many=True, read_only=True)

    class Meta(UploadAnswer.Meta):
        fields = [*UploadAnswer.Meta.fields, "addresses"]
        read_only_fields = fields


class UploadStateAnswer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(UploadState.choices)
