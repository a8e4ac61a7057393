"""The device endpoints of deployments. Every request is signed; see docs/device-api.md."""

from typing import Any
from uuid import UUID

from django.http import HttpResponse, HttpResponseBase, HttpResponseRedirect
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bundles.storage.interface import blobs
from deployments import download_access
from deployments.blob_responses import BadRange, send_blob
from deployments.device_serializers import ResultRequest, ResultResponse
from deployments.reports import Report, accept_report
from devices.authentication import DeviceSignature, device_of
from devices.device_views import SIGNED
from foundation.api.exceptions import error_body
from foundation.rate_limits.throttles import DeviceThrottle

REFUSED = OpenApiResponse(description="pending, decommissioned")
RANGE = OpenApiParameter("Range", str, OpenApiParameter.HEADER, description="A single range, such as `bytes=1024-`.")
IF_RANGE = OpenApiParameter("If-Range", str, OpenApiParameter.HEADER, description="The ETag of the blob to resume.")


class _DeviceView(APIView):
    authentication_classes = [DeviceSignature]
    permission_classes = []
    throttle_classes = [DeviceThrottle]


class Result(_DeviceView):
    @extend_schema(
        request=ResultRequest,
        responses={
            200: ResultResponse,
            401: SIGNED,
            403: REFUSED,
            404: OpenApiResponse(description="not_found"),
            409: OpenApiResponse(description="ended, old_attempt; each with the server's state"),
        },
    )
    def post(self, request: Request, deployment_id: UUID) -> Response:
        """Report a stage or the end. Idempotent: a repeated report changes nothing and gets the same response."""
        body = ResultRequest(data=request.data)
        body.is_valid(raise_exception=True)
        values: dict[str, Any] = dict(body.validated_data)
        report = Report(**values.pop("progress", {}), **values)
        return Response({"state": accept_report(device_of(request).pk, deployment_id, report)})


class Manifest(_DeviceView):
    http_method_names = ["get", "options"]

    @extend_schema(
        responses={
            (200, "application/json"): OpenApiTypes.OBJECT,
            401: SIGNED,
            403: REFUSED,
            404: OpenApiResponse(description="unknown_manifest"),
        }
    )
    def get(self, request: Request, name: str, manifest_sha256: str, version: str) -> HttpResponse:
        """A bundle's manifest, byte for byte as it was published. The path names its sha256."""
        body = download_access.manifest(device_of(request).pk, name, version, manifest_sha256)
        return HttpResponse(body, content_type="application/json", headers={"ETag": f'"{manifest_sha256}"'})


class BlobBytes(_DeviceView):
    http_method_names = ["get", "options"]

    @extend_schema(
        parameters=[RANGE, IF_RANGE],
        responses={
            (200, "application/octet-stream"): OpenApiTypes.BINARY,
            (206, "application/octet-stream"): OpenApiTypes.BINARY,
            302: OpenApiResponse(description="Fetch the bytes from the URL in `Location`, unsigned. It expires soon."),
            401: SIGNED,
            403: REFUSED,
            404: OpenApiResponse(description="unknown_blob"),
            416: OpenApiResponse(description="bad_range, with the blob's size"),
            503: OpenApiResponse(description="busy: too many downloads at the moment; see Retry-After"),
        },
    )
    def get(self, request: Request, sha256: str) -> HttpResponseBase:
        """The bytes of one file, or a range of them."""
        device = device_of(request)
        size = download_access.size_of_blob(device.pk, sha256)
        storage = blobs()
        url = storage.url(sha256)
        if url is not None:
            return HttpResponseRedirect(url)
        try:
            return send_blob(request._request, storage.open(sha256), size, f'"{sha256}"', device.pk)
        except BadRange as error:
            refusal = Response(error_body(error.code, error.message, dict(error.extra)), status=error.status)
            refusal["Content-Range"] = f"bytes */{size}"
            return refusal
