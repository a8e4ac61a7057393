"""The operators' endpoints for the logs of devices."""

from typing import Any
from uuid import UUID

from django.http import StreamingHttpResponse
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.models import LogRequest
from devices.serializers import LogRequestRequest, LogRequestResponse
from devices.views import WRONG_STATE, DevicePart, get_device
from foundation.accounts.authentication import token_of
from foundation.api.pagination import NewestFirst


def get_log_request(request_id: UUID) -> LogRequest:
    """Return a log request, or raise `Http404`."""
    return get_object_or_404(LogRequest, pk=request_id)


def log_response(log_request: LogRequest) -> StreamingHttpResponse:
    """Return what has arrived of the logs, as a text file to download."""
    response = StreamingHttpResponse(log_request.text(), content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{log_request.device_id}-{log_request.pk}.log"'
    response["Cache-Control"] = "no-store"
    return response


class DeviceLogRequests(DevicePart[LogRequest]):
    """The log requests of one device, newest first."""

    model = LogRequest
    serializer_class = LogRequestResponse
    pagination_class = NewestFirst

    @extend_schema(
        request=LogRequestRequest,
        responses={
            202: LogRequestResponse,
            200: OpenApiResponse(LogRequestResponse, description="the device has an unfinished log request: this one"),
            409: WRONG_STATE,
        },
    )
    def post(self, request: Request, device_id: UUID) -> Response:
        """Ask a device for its logs. It sends them after its next heartbeat."""
        device = get_device(device_id)
        serializer = LogRequestRequest(data=request.data)
        serializer.is_valid(raise_exception=True)
        opened = LogRequest.open_for(device, actor=token_of(request).actor, **serializer.validated_data)
        return Response(LogRequestResponse(opened.log_request).data, status=202 if opened.is_new else 200)


class OneLogRequest(APIView):
    @extend_schema(responses=LogRequestResponse)
    def get(self, request: Request, request_id: UUID) -> Response:
        """One log request and its progress."""
        return Response(LogRequestResponse(get_log_request(request_id)).data)


class LogRequestText(APIView):
    @extend_schema(responses={(200, "text/plain"): OpenApiTypes.STR})
    def get(self, request: Request, request_id: UUID) -> Any:
        """The text that has arrived so far. A line `==> SOURCE <==` introduces each source."""
        return log_response(get_log_request(request_id))
