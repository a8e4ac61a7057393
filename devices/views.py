"""The operators' endpoints for devices, their history and their commands."""

from typing import Any, ClassVar, TypeVar
from uuid import UUID

from django.db.models import Model, QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.dynamic_groups import devices_in_group
from devices.export import export
from devices.models import Command, Decision, Device, DeviceQuerySet, HeartbeatSample
from devices.queries.filtering import filter_devices, limited_time
from devices.serializers import (
    CommandResponse,
    DeviceDetail,
    DeviceExportFilter,
    DeviceFilter,
    DevicePatch,
    DeviceResponse,
    ExportFormat,
    HeartbeatSampleResponse,
)
from foundation.accounts.authentication import token_of
from foundation.api.pagination import Pages
from foundation.api.query_parameters import ListView

M = TypeVar("M", bound=Model)

BUSY = OpenApiResponse(description="busy")
BAD_QUERY = OpenApiResponse(description="invalid_query, query_too_slow")
WRONG_STATE = OpenApiResponse(description="wrong_state")


class LastRegisteredFirst(Pages):
    ordering = "-registered_at"


class LatestFirst(Pages):
    ordering = "-at"


class HighestIdFirst(Pages):
    ordering = "-id"


def get_device(device_id: UUID) -> Device:
    """Return a device with its group, or raise `Http404`."""
    return get_object_or_404(Device.objects.select_related("group"), pk=device_id)


class Devices(ListView[Device]):
    serializer_class = DeviceResponse
    pagination_class: type[Pages] | None = LastRegisteredFirst
    filter_class = DeviceFilter

    def get_queryset(self) -> DeviceQuerySet:
        filters = self.filters()
        query, name = filters.pop("q", ""), filters.pop("group", "")
        filters.pop("format", None)  # of the export
        devices = filter_devices(Device.objects.select_related("group").matching(**filters), query)
        return devices_in_group(devices, name) if name else devices

    @extend_schema(parameters=[DeviceFilter], responses={400: BAD_QUERY})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """All devices, newest first."""
        if not {"q", "group"} & request.query_params.keys():
            return self.list(request, *args, **kwargs)
        with limited_time():
            return self.list(request, *args, **kwargs)


class ExportDevices(Devices):
    filter_class = DeviceExportFilter
    pagination_class = None

    @extend_schema(
        parameters=[DeviceExportFilter],
        responses={(200, "text/csv"): str, (200, "application/x-ndjson"): str, 400: BAD_QUERY, 503: BUSY},
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """All devices that match, in the order of their ids, streamed as CSV or as one JSON object per line."""
        export_format = ExportFormat(self.filters()["format"])
        return export(request._request, self.get_queryset(), export_format)


class OneDevice(APIView):
    @extend_schema(responses=DeviceDetail)
    def get(self, request: Request, device_id: UUID) -> Response:
        """What a device reports, and what operators decided about it."""
        return Response(DeviceDetail(get_device(device_id)).data)

    @extend_schema(request=DevicePatch, responses=DeviceDetail)
    def patch(self, request: Request, device_id: UUID) -> Response:
        """Change a device's name, tags, group or test flag."""
        device = get_device(device_id)
        serializer = DevicePatch(data=request.data)
        serializer.is_valid(raise_exception=True)
        device.edit(token_of(request).actor, **serializer.validated_data)
        return Response(DeviceDetail(device).data)


class _DecisionView(APIView):
    """One decision about one device. Idempotent: repeating it changes nothing."""

    decision: ClassVar[Decision]

    @extend_schema(request=None, responses={200: DeviceDetail, 409: WRONG_STATE})
    def post(self, request: Request, device_id: UUID) -> Response:
        device = get_device(device_id)
        device.decide(self.decision, token_of(request).actor)
        return Response(DeviceDetail(device).data)


class ApproveDevice(_DecisionView):
    """Accept a pending device."""

    decision = Decision.APPROVE


class RejectDevice(_DecisionView):
    """Refuse a pending device permanently."""

    decision = Decision.REJECT


class DecommissionDevice(_DecisionView):
    """Put a device out of service permanently."""

    decision = Decision.DECOMMISSION


class DevicePart(ListView[M]):
    """Base class for lists of what belongs to one device."""

    model: ClassVar[type[Model]]

    def get_queryset(self) -> QuerySet[M]:
        if getattr(self, "swagger_fake_view", False):  # drf-spectacular calls this without a device
            return self.model._default_manager.none()  # type: ignore[return-value]
        device_id = self.kwargs["device_id"]
        if not Device.objects.filter(pk=device_id).exists():
            raise Http404
        return self.model._default_manager.filter(device_id=device_id)  # type: ignore[return-value]


class History(DevicePart[HeartbeatSample]):
    """The sampled heartbeats of one device, newest first."""

    model = HeartbeatSample
    serializer_class = HeartbeatSampleResponse
    pagination_class = LatestFirst


class Commands(DevicePart[Command]):
    """The commands of one device with their outcomes, newest first."""

    model = Command
    serializer_class = CommandResponse
    pagination_class = HighestIdFirst
