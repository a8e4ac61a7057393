"""GET /metrics: the requests of all workers and the state of the fleet, in Prometheus's text format."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import inf

from django.conf import settings
from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from deployments.models import Deployment, DeviceDeployment, Hold
from deployments.models.device_deployment_queryset import DeviceDeploymentQuerySet
from devices.models import Command, Device
from foundation.accounts.models import ApiToken
from foundation.api.client_address import is_from_this_machine
from foundation.api.exceptions import refuse, translate
from foundation.scheduler import holder
from operations.backups.create import age
from operations.monitoring import multiprocess_dir

CACHE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Figure:
    """One gauge of the fleet: its values by the label's values. Without a label, the only key is the empty string."""

    name: str
    help: str
    values: Mapping[str, float]
    label: str = ""

    def as_metric(self) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily(f"kernex_{self.name}", self.help, labels=[self.label] if self.label else [])
        for label_value, value in self.values.items():
            gauge.add_metric([label_value] if self.label else [], value)
        return gauge


class Fleet:
    """The fleet's figures. Each process counts them at most once per `CACHE_SECONDS`, in one thread at a time."""

    def __init__(self, count: Callable[[], list[Figure]]) -> None:
        self.count = count
        self.lock = threading.Lock()
        self.counted_at = float("-inf")
        self.cached: list[Figure] | None = None

    def figures(self) -> list[Figure] | None:
        """Return the figures; None if the database cannot be used."""
        with self.lock:
            if time.monotonic() - self.counted_at > CACHE_SECONDS:
                try:
                    self.cached = self.count()
                except Error:
                    self.cached = None
                self.counted_at = time.monotonic()
            return self.cached


def count() -> list[Figure]:
    """Count the fleet's figures. Raises `Error` if the database cannot be used."""
    backup_age = age()
    fleet = Device.objects.in_statistics()

    def single(name: str, text: str, value: float) -> Figure:
        return Figure(name, text, {"": value})

    return [
        Figure("devices", "Devices by state; online and offline are accepted ones.", fleet.counts(), "state"),
        Figure("devices_health", "Online devices by reported health.", fleet.health_counts(), "health"),
        single("commands_open", "Commands that no device has acknowledged.", Command.objects.open().count()),
        single("deployments_running", "Deployments that offer their bundle.", Deployment.objects.running().count()),
        single("deployments_paused", "Deployments that wait for an operator.", Deployment.objects.paused().count()),
        single(
            "device_deployments_failed",
            "Device deployments that ended without success within the last hour.",
            recent_failures(),
        ),
        single(
            "device_deployments_failed_late",
            "Successful device deployments that failed within their observation time, in the last hour.",
            in_statistics().filter(late_at__gte=timezone.now() - timedelta(hours=1)).count(),
        ),
        single(
            "deployments_held", "1 while deployments are held after a restore.", int(Hold.objects.active().exists())
        ),
        single("scheduler_running", "1 if a scheduler runs.", int(holder() is not None)),
        single(
            "backup_age_seconds",
            "Seconds since the last `manage.py backup`; +Inf if there was none.",
            inf if backup_age is None else int(backup_age.total_seconds()),
        ),
    ]


def recent_failures() -> int:
    """Return how many device deployments ended without success within the last hour."""
    return in_statistics().unsuccessful().filter(finished_at__gte=timezone.now() - timedelta(hours=1)).count()


def in_statistics() -> DeviceDeploymentQuerySet:
    """Return the device deployments of all except test devices."""
    return DeviceDeployment.objects.filter(device__is_test=False)


FLEET = Fleet(count)


class FleetCollector(Collector):
    """The figures as gauges. Without a database, `kernex_database_up` is 0 and there are no other gauges."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def collect(self) -> Iterator[Metric]:
        figures = self.fleet.figures()
        yield GaugeMetricFamily("kernex_database_up", "1 if the database answers.", 0 if figures is None else 1)
        for figure in figures or []:
            yield figure.as_metric()


def may_read(request: HttpRequest) -> bool:
    """Return whether the client sent METRICS_TOKEN or a usable API token, or is a process of this machine."""
    words = request.META.get("HTTP_AUTHORIZATION", "").split()
    if len(words) == 2 and words[0].lower() == "bearer":
        secret = words[1]
        if settings.METRICS_TOKEN and secrets.compare_digest(secret.encode(), settings.METRICS_TOKEN.encode()):
            return True
        token = ApiToken.objects.usable().for_secret(secret).select_related("user").first()
        return token is not None and token.is_within_rights()
    return is_from_this_machine(request)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    try:
        is_allowed = may_read(request)
    except Error as error:  # API tokens are checked in the database
        refusal = translate(error)
        if refusal is None:
            raise
        return refuse(request, refusal)
    if not is_allowed:
        unauthorized = HttpResponse(
            "Send METRICS_TOKEN or an API token as a Bearer token.\n", status=401, content_type="text/plain"
        )
        unauthorized["WWW-Authenticate"] = 'Bearer realm="kernex"'
        return unauthorized
    return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)


def exposition() -> bytes:
    """Return all metrics in Prometheus's text format."""
    fleet = CollectorRegistry()
    fleet.register(FleetCollector(FLEET))
    if multiprocess_dir.directory() is None:
        return generate_latest(REGISTRY) + generate_latest(fleet)
    requests = CollectorRegistry()
    MultiProcessCollector(requests)  # type: ignore[no-untyped-call]
    with multiprocess_dir.reading():
        return generate_latest(requests) + generate_latest(fleet)
