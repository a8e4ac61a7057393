"""The publishers' endpoints for uploads. An upload belongs to the user who started it."""

from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bundles.models import Upload, UploadPart, UploadState
from bundles.serializers import (
    PartResponse,
    PartURLResponse,
    PartURLsRequest,
    PartURLsResponse,
    StartedUpload,
    UploadRequest,
    UploadResponse,
    UploadStateResponse,
)
from bundles.uploads import protocol
from bundles.uploads.parsers import OctetStream, part_body
from bundles.uploads.part_transport import PART_SIZE, part_transport
from foundation.accounts.authentication import token_of
from foundation.accounts.permissions import ReadOrPublish
from foundation.errors import NotFound

DIGEST_HEADER = OpenApiParameter(
    "Content-Digest",
    OpenApiTypes.STR,
    OpenApiParameter.HEADER,
    required=True,
    description="`sha-256=:<base64>:` over the body",
)


def own_upload(request: Request, upload_id: UUID) -> Upload:
    """Return the caller's upload. Raises `NotFound` (`unknown_upload`), even for another user's upload."""
    upload = Upload.objects.filter(pk=upload_id, created_by=token_of(request).user).first()
    if upload is None:
        raise NotFound("unknown_upload", "You have no upload with this id.")
    return upload


def parts_of(message: dict[str, Any]) -> list[UploadPart]:
    """Return the parts that a request names, as unsaved rows."""
    return [UploadPart(**part) for part in message["parts"]]


class Uploads(APIView):
    permission_classes = [ReadOrPublish]

    @extend_schema(request=UploadRequest, responses={201: StartedUpload, 200: StartedUpload})
    def post(self, request: Request) -> Response:
        """Start an upload, or continue an unfinished one. `state` is `stored` if nothing has to be sent."""
        message = UploadRequest(data=request.data)
        message.is_valid(raise_exception=True)
        blob = message.validated_data
        upload, is_new = protocol.start(token_of(request).user, blob["sha256"], blob["size"])
        if upload is None:
            stored = {"id": None, "state": UploadState.STORED, "state_reason": "", "part_size": PART_SIZE}
            return Response(stored | {"size": blob["size"], "parts": [], "direct": False, "addresses": []})
        is_open = upload.state == UploadState.OPEN
        urls = part_transport().part_urls(upload, parts_of(blob)) if is_open else []
        body = UploadResponse(upload).data | {"addresses": PartURLResponse(urls, many=True).data}
        return Response(body, status=201 if is_new else 200)


class OneUpload(APIView):
    permission_classes = [ReadOrPublish]

    @extend_schema(responses=UploadResponse)
    def get(self, request: Request, upload_id: UUID) -> Response:
        """Return the state of an upload, and the parts that arrived."""
        return Response(UploadResponse(own_upload(request, upload_id)).data)


class PartURLs(APIView):
    permission_classes = [ReadOrPublish]

    @extend_schema(request=PartURLsRequest, responses=PartURLsResponse)
    def post(self, request: Request, upload_id: UUID) -> Response:
        """Create presigned URLs for these parts, valid for 15 minutes. Empty if `direct` is false."""
        message = PartURLsRequest(data=request.data)
        message.is_valid(raise_exception=True)
        urls = part_transport().part_urls(own_upload(request, upload_id), parts_of(message.validated_data))
        return Response({"addresses": PartURLResponse(urls, many=True).data})


class OnePart(APIView):
    permission_classes = [ReadOrPublish]
    parser_classes = [OctetStream]

    @extend_schema(
        parameters=[DIGEST_HEADER],
        request={"application/octet-stream": OpenApiTypes.BINARY},
        responses=PartResponse,
    )
    def put(self, request: Request, upload_id: UUID, number: int) -> Response:
        """Send one part, at most 16 MiB. All parts but the last have exactly `part_size` bytes."""
        body = part_body(request)
        part = part_transport().receive(own_upload(request, upload_id), number, body)
        return Response(PartResponse(part).data)


class CompleteUpload(APIView):
    permission_classes = [ReadOrPublish]

    @extend_schema(request=None, responses={202: UploadStateResponse, 200: UploadStateResponse})
    def post(self, request: Request, upload_id: UUID) -> Response:
        """Queue the upload for verification after all parts were sent. 200 if it is stored already."""
        upload = own_upload(request, upload_id)
        protocol.complete(upload)
        return Response({"state": upload.state}, status=200 if upload.state == UploadState.STORED else 202)
