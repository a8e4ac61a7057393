"""GET /metrics: the requests of all workers and the state of the fleet, in Prometheus' text format."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
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
from devices.models import Command, Device
from foundation.accounts.models import ApiToken
from foundation.api.client_address import is_from_this_machine
from foundation.api.exceptions import refuse, translate
from foundation.scheduler import holder
from operations.backups.create import age
from operations.monitoring import multiprocess_dir

KEPT_SECONDS = 10


class Fleet:
    """The fleet's figures, counted at most once in `KEPT_SECONDS` by each process, by one thread at a time."""

    def __init__(self, count: Callable[[], dict[str, dict[str, float]]]) -> None:
        self.count = count
        self.lock = threading.Lock()
        self.counted_at = float("-inf")
        self.counts: dict[str, dict[str, float]] | None = None

    def figures(self) -> dict[str, dict[str, float]] | None:
        """What was counted; None if the database cannot say."""
        with self.lock:
            if time.monotonic() - self.counted_at > KEPT_SECONDS:
                try:
                    self.counts = self.count()
                except Error:
                    self.counts = None
                self.counted_at = time.monotonic()
            return self.counts


def count() -> dict[str, dict[str, float]]:
    """The fleet's figures by name, each by its label's values. Raises `Error` without a database."""
    since_backup = age()
    return {
        "devices": {**Device.objects.counts()},
        "commands_open": {"": Command.objects.open().count()},
        "deployments_running": {"": Deployment.objects.running().count()},
        "device_deployments_failed": {"": failed_lately()},
        "deployments_held": {"": int(Hold.objects.active().exists())},
        "scheduler_running": {"": int(holder() is not None)},
        "backup_age_seconds": {"": inf if since_backup is None else int(since_backup.total_seconds())},
    }


def failed_lately() -> int:
    """Device deployments that ended otherwise than wished within the last hour."""
    return DeviceDeployment.objects.unsuccessful().filter(finished_at__gte=timezone.now() - timedelta(hours=1)).count()


FLEET = Fleet(count)
HELP = {
    "devices": ("Devices by state; online and offline are accepted ones.", "state"),
    "commands_open": ("Commands that no device acknowledged yet.", ""),
    "deployments_running": ("Deployments that have not ended.", ""),
    "device_deployments_failed": ("Device deployments that ended otherwise than wished within the last hour.", ""),
    "deployments_held": ("1 while deployments are held after a restore.", ""),
    "scheduler_running": ("1 if a scheduler is at work.", ""),
    "backup_age_seconds": ("Seconds since the last `manage.py backup`; +Inf if none was ever made.", ""),
}


class FleetCollector(Collector):
    """The figures as gauges. Without a database, `kernex_database_up` is 0 and the others are left out."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def collect(self) -> Iterator[Metric]:
        counts = self.fleet.figures()
        yield GaugeMetricFamily("kernex_database_up", "1 if the database answers.", 0 if counts is None else 1)
        for name, values in (counts or {}).items():
            text, label = HELP[name]
            gauge = GaugeMetricFamily(f"kernex_{name}", text, labels=[label] if label else [])
            for word, value in values.items():
                gauge.add_metric([word] if label else [], value)
            yield gauge


def may_read(request: HttpRequest) -> bool:
    """Who shows METRICS_TOKEN or a usable API token, and any process of this machine."""
    words = request.META.get("HTTP_AUTHORIZATION", "").split()
    if len(words) == 2 and words[0].lower() == "bearer":
        given = words[1]
        if settings.METRICS_TOKEN and secrets.compare_digest(given.encode(), settings.METRICS_TOKEN.encode()):
            return True
        token = ApiToken.objects.usable().for_secret(given).select_related("user").first()
        return token is not None and token.is_within_rights()
    return is_from_this_machine(request)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    try:
        may = may_read(request)
    except Error as error:  # whether an API token is good, only the database knows
        refusal = translate(error)
        if refusal is None:
            raise
        return refuse(request, refusal)
    if not may:
        refused = HttpResponse("Show METRICS_TOKEN or an API token.\n", status=401, content_type="text/plain")
        refused["WWW-Authenticate"] = 'Bearer realm="kernex"'
        return refused
    return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)


def exposition() -> bytes:
    """Everything there is to say, in Prometheus' text format."""
    fleet = CollectorRegistry()
    fleet.register(FleetCollector(FLEET))
    if multiprocess_dir.directory() is None:
        return generate_latest(REGISTRY) + generate_latest(fleet)
    requests = CollectorRegistry()
    MultiProcessCollector(requests)  # type: ignore[no-untyped-call]
    with multiprocess_dir.reading():
        return generate_latest(requests) + generate_latest(fleet)
