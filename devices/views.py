"""Devices, as operators see them."""

from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.models import Device, HeartbeatSample
from devices.serializers import DeviceAnswer, DeviceDetail, DeviceFilter, DevicePatch, SampleAnswer
from foundation.accounts.authentication import token_of
from foundation.api.pagination import Pages

WRONG_STATE = OpenApiResponse(description="wrong_state")


class LastRegisteredFirst(Pages):
    ordering = "-registered_at"


class LatestFirst(Pages):
    ordering = "-at"


def one_device(device_id: UUID) -> Device:
    return get_object_or_404(Device.objects.select_related("group"), pk=device_id)


class Devices(generics.ListAPIView[Device]):
    serializer_class = DeviceAnswer
    pagination_class = LastRegisteredFirst

    def get_queryset(self) -> QuerySet[Device]:
        wanted = DeviceFilter(data=self.request.query_params.dict())
        wanted.is_valid(raise_exception=True)
        return Device.objects.select_related("group").matching(**wanted.validated_data)

    @extend_schema(parameters=[DeviceFilter])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """All devices, newest first."""
        return self.list(request, *args, **kwargs)


class OneDevice(APIView):
    @extend_schema(responses=DeviceDetail)
    def get(self, request: Request, device_id: UUID) -> Response:
        """What a device reports, and what operators decided about it."""
        return Response(DeviceDetail(one_device(device_id)).data)

    @extend_schema(request=DevicePatch, responses=DeviceDetail)
    def patch(self, request: Request, device_id: UUID) -> Response:
        """Change a device's name, tags or group."""
        device = one_device(device_id)
        message = DevicePatch(data=request.data)
        message.is_valid(raise_exception=True)
        device.edit(token_of(request).actor, **message.validated_data)
        return Response(DeviceDetail(device).data)


class _Transition(APIView):
    """One decision about one device; said twice, the second changes nothing."""

    verb: ClassVar[str]

    @extend_schema(request=None, responses={200: DeviceDetail, 409: WRONG_STATE})
    def post(self, request: Request, device_id: UUID) -> Response:
        device = one_device(device_id)
        getattr(device, self.verb)(token_of(request).actor)
        return Response(DeviceDetail(device).data)


class ApproveDevice(_Transition):
    """Let a pending device in."""

    verb = "approve"


class RejectDevice(_Transition):
    """Keep a pending device out, for good."""

    verb = "reject"


class DecommissionDevice(_Transition):
    """Put a device out of service, for good."""

    verb = "decommission"


class History(generics.ListAPIView[HeartbeatSample]):
    """Heartbeats of one device, sampled, newest first."""

    serializer_class = SampleAnswer
    pagination_class = LatestFirst
    queryset = HeartbeatSample.objects.none()  # for the schema

    def get_queryset(self) -> QuerySet[HeartbeatSample]:
        device_id = self.kwargs["device_id"]
        if not Device.objects.filter(pk=device_id).exists():
            raise Http404
        return HeartbeatSample.objects.filter(device_id=device_id)
