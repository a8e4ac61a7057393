"""The operators' endpoint for the deployments of one device."""

from uuid import UUID

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from deployments.models import DeviceDeployment
from deployments.serializers import DeviceDeploymentResponse
from devices.models import Device
from foundation.api.pagination import NewestFirst
from foundation.api.query_parameters import ListView


class HistoryResponse(DeviceDeploymentResponse):
    deployment = serializers.UUIDField(source="deployment_id")
    bundle = serializers.CharField(source="target")

    class Meta(DeviceDeploymentResponse.Meta):
        fields = ["deployment", "bundle", *DeviceDeploymentResponse.Meta.fields]
        read_only_fields = fields


class DeviceDeployments(ListView[DeviceDeployment]):
    serializer_class = HistoryResponse
    pagination_class = NewestFirst
    queryset = DeviceDeployment.objects.none()  # for the schema

    def get_queryset(self) -> QuerySet[DeviceDeployment]:
        device = get_object_or_404(Device, pk=self.kwargs["device_id"])
        rows = DeviceDeployment.objects.filter(device=device).select_related(
            "device", "phase", "bundle", "deployment__bundle"
        )
        return rows.defer("bundle__manifest", "deployment__bundle__manifest")

    def get(self, request: Request, device_id: UUID) -> Response:
        """The deployments that included a device, newest first, each with its state and reason."""
        return self.list(request)
