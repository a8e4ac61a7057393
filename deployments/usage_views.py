"""The operators' endpoint that says where a bundle runs."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bundles.models import Bundle
from deployments.usage import usage
from devices.queries.filtering import limited_time


class BundleUsage(serializers.Serializer[Any]):
    """How many devices report to run a bundle, by their health."""

    healthy = serializers.IntegerField()
    restarting = serializers.IntegerField()
    unhealthy = serializers.IntegerField()
    unknown = serializers.IntegerField(help_text="Devices that are not online; they ran it when they last reported.")


class RunningBundle(APIView):
    @extend_schema(responses=BundleUsage)
    def get(self, request: Request, name: str, version: str) -> Response:
        """On how many devices a bundle runs. `GET /devices?q=runs.NAME = VERSION` lists them."""
        bundle = Bundle.objects.defer("manifest").get_by_label(f"{name}@{version}")
        with limited_time():
            return Response(usage(bundle))
