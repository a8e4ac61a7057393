"""Pages and answers that show more than one room: health, the start page's figures."""

from typing import Any

from django.http import HttpRequest, JsonResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bundles.models import Bundle
from deployments.models import Deployment, DeviceDeployment
from devices.models import Device
from kernex import __version__
from kernex.events.models import Event
from kernex.health import findings

SHOWN = 8


@never_cache
@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """200 `ok` or `degraded`; 503 `failing` when heartbeats cannot be taken, with what mends it."""
    found = findings()
    failing = any(finding.stops_heartbeats for finding in found)
    problems = [{"part": finding.part, "problem": finding.problem, "mend": finding.mend} for finding in found]
    state = "failing" if failing else "degraded" if found else "ok"
    answer = JsonResponse(
        {"status": state, "version": __version__, "problems": problems}, status=503 if failing else 200
    )
    if failing:
        answer["Retry-After"] = "5"
    return answer


@never_cache
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """The process runs. Asks nothing of anybody."""
    return JsonResponse({"status": "ok", "version": __version__})


def figures() -> dict[str, Any]:
    """The numbers of the start page and of GET /api/v1/status."""
    return {
        "devices": {
            "online": Device.objects.online().count(),
            "offline": Device.objects.offline().count(),
            "pending": Device.objects.pending().count(),
            "decommissioned": Device.objects.decommissioned().count(),
        },
        "deployments": {"running": Deployment.objects.running().count()},
        "bundles": {"ready": Bundle.objects.ready().count()},
        "version": __version__,
    }


def start_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the admin's start page shows: each number leads to its list."""
    counted = figures()
    devices, deployments = (
        reverse("admin:devices_device_changelist"),
        reverse("admin:deployments_deployment_changelist"),
    )
    bundles = reverse("admin:bundles_bundle_changelist")
    numbers = counted["devices"]
    failed = DeviceDeployment.objects.unsuccessful().select_related("device", "deployment__bundle")
    context["tiles"] = [
        {"name": "online", "count": numbers["online"], "url": f"{devices}?liveness=online", "tone": "good"},
        {"name": "offline", "count": numbers["offline"], "url": f"{devices}?liveness=offline", "tone": "bad"},
        {"name": "pending", "count": numbers["pending"], "url": f"{devices}?state__exact=pending", "tone": "warn"},
        {
            "name": "running deployments",
            "count": counted["deployments"]["running"],
            "url": f"{deployments}?state__exact=running",
            "tone": "busy",
        },
        {
            "name": "ready bundles",
            "count": counted["bundles"]["ready"],
            "url": f"{bundles}?state__exact=ready",
            "tone": "plain",
        },
    ]
    context["running"] = Deployment.objects.running().select_related("bundle")[:SHOWN]
    context["failures"] = failed.order_by("-state_changed_at")[:SHOWN]
    context["events"] = Event.objects.all()[:SHOWN]
    return context


class DeviceFigures(serializers.Serializer[Any]):
    online = serializers.IntegerField()
    offline = serializers.IntegerField()
    pending = serializers.IntegerField()
    decommissioned = serializers.IntegerField()


class DeploymentFigures(serializers.Serializer[Any]):
    running = serializers.IntegerField()


class BundleFigures(serializers.Serializer[Any]):
    ready = serializers.IntegerField()


class StatusAnswer(serializers.Serializer[Any]):
    devices = DeviceFigures()
    deployments = DeploymentFigures()
    bundles = BundleFigures()
    version = serializers.CharField()


class Status(APIView):
    @extend_schema(responses=StatusAnswer)
    def get(self, request: Request) -> Response:
        """How the fleet is doing, in a few numbers."""
        return Response(figures())
