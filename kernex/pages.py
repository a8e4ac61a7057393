"""Pages that combine several apps: health, the start page, the status."""

from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings
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
from deployments.models import Deployment, DeviceDeployment, Hold
from deployments.progress import counts_of, segments
from devices.models import Device
from foundation.events.models import Event
from operations.monitoring.health import findings

SHOWN_ROWS = 8


@never_cache
@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """Respond with 200 `ok` or `degraded`, or 503 `failing` if heartbeats are not accepted, and say how to fix it."""
    problems = findings()
    failing = any(finding.stops_heartbeats for finding in problems)
    shown = [{"part": finding.part, "problem": finding.problem, "fix": finding.fix} for finding in problems]
    state = "failing" if failing else "degraded" if problems else "ok"
    response = JsonResponse(
        {"status": state, "version": settings.VERSION, "problems": shown}, status=503 if failing else 200
    )
    if failing:
        response["Retry-After"] = "5"
    return response


@never_cache
@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """Respond with 200 while the process runs, without a database query."""
    return JsonResponse({"status": "ok", "version": settings.VERSION})


@dataclass(frozen=True, slots=True)
class DeploymentCounts:
    running: int
    paused: int
    are_held: bool


@dataclass(frozen=True, slots=True)
class BundleCounts:
    ready: int


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """The numbers of the start page, and the response of GET /api/v1/status. Test devices do not count."""

    devices: dict[str, int]
    health: dict[str, int]
    deployments: DeploymentCounts
    bundles: BundleCounts
    version: str

    @classmethod
    def now(cls) -> "FleetStatus":
        fleet = Device.objects.in_statistics()
        return cls(
            devices=fleet.counts(),
            health=fleet.health_counts(),
            deployments=DeploymentCounts(
                running=Deployment.objects.running().count(),
                paused=Deployment.objects.paused().count(),
                are_held=Hold.objects.active().exists(),
            ),
            bundles=BundleCounts(ready=Bundle.objects.ready().count()),
            version=settings.VERSION,
        )


def with_segments(deployments: Any) -> list[Deployment]:
    """Return the newest of these deployments, each with the segments of its bar."""
    shown = list(deployments[:SHOWN_ROWS])
    counts = counts_of(shown)
    for deployment in shown:
        deployment.segments = segments(counts[deployment.pk])
    return shown


def start_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what this person may see to the context. Each number links to its list."""
    status = FleetStatus.now()
    tiles = [
        *(
            (name, count, style, "devices", "device", f"{query}&is_test__exact=0")
            for name, count, style, query in (
                ("online", status.devices["online"], "good", "liveness=online"),
                ("offline", status.devices["offline"], "bad", "liveness=offline"),
                ("unhealthy", status.health["unhealthy"], "bad", "health=unhealthy"),
                ("restarting", status.health["restarting"], "warn", "health=restarting"),
                ("pending", status.devices["pending"], "warn", "state__exact=pending"),
            )
        ),
        (
            "running deployments",
            status.deployments.running,
            "busy",
            "deployments",
            "deployment",
            "state__exact=running",
        ),
        (
            "paused deployments",
            status.deployments.paused,
            "warn",
            "deployments",
            "deployment",
            "state__exact=paused",
        ),
        ("ready bundles", status.bundles.ready, "plain", "bundles", "bundle", "state__exact=ready"),
    ]
    context["tiles"] = [
        {"name": name, "count": count, "style": style, "url": f"{reverse(f'admin:{app}_{model}_changelist')}?{query}"}
        for name, count, style, app, model, query in tiles
        if request.user.has_perm(f"{app}.view_{model}") or request.user.has_perm(f"{app}.change_{model}")
    ]
    failed = DeviceDeployment.objects.unsuccessful().select_related("device", "deployment__bundle")
    if status.deployments.are_held:
        context["held"] = Hold.objects.active().first()
    in_progress = Deployment.objects.unfinished().select_related("bundle").defer("bundle__manifest")
    context["in_progress"] = with_segments(in_progress)
    context["failures"] = failed.defer("deployment__bundle__manifest").order_by("-finished_at")[:SHOWN_ROWS]
    context["events"] = Event.objects.all()[:SHOWN_ROWS]
    return context


class DeviceFigures(serializers.Serializer[Any]):
    online = serializers.IntegerField()
    offline = serializers.IntegerField()
    pending = serializers.IntegerField()
    decommissioned = serializers.IntegerField()


class HealthFigures(serializers.Serializer[Any]):
    """The health of online devices, as their last heartbeats describe it."""

    healthy = serializers.IntegerField()
    restarting = serializers.IntegerField()
    unhealthy = serializers.IntegerField()


class DeploymentFigures(serializers.Serializer[Any]):
    running = serializers.IntegerField()
    paused = serializers.IntegerField(help_text="They wait for an operator.")
    are_held = serializers.BooleanField(help_text="After a restore, until an operator releases them.")


class BundleFigures(serializers.Serializer[Any]):
    ready = serializers.IntegerField()


class StatusResponse(serializers.Serializer[Any]):
    devices = DeviceFigures()
    health = HealthFigures()
    deployments = DeploymentFigures()
    bundles = BundleFigures()
    version = serializers.CharField()


class Status(APIView):
    @extend_schema(responses=StatusResponse)
    def get(self, request: Request) -> Response:
        """Return the state of the fleet in a few numbers."""
        return Response(asdict(FleetStatus.now()))
