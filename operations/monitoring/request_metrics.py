"""Metrics of requests: duration, status, and the outcomes of heartbeats.

gunicorn.conf.py sets `PROMETHEUS_MULTIPROC_DIR`, so prometheus-client keeps these metrics in files that all workers
share. Any worker can report the metrics of all.
"""

import time
from collections.abc import Callable
from functools import lru_cache

from django.http import HttpRequest, HttpResponse
from prometheus_client import Counter, Histogram

REQUESTS = Counter("kernex_requests", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram(
    "kernex_request_seconds",
    "Seconds until the response started.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
HEARTBEATS = Counter("kernex_heartbeats", "Heartbeats by outcome.", ["outcome"])

HEARTBEAT_ROUTE = "heartbeat"
OUTCOMES = {200: "taken", 401: "unproven", 403: "refused", 409: "sequence_used", 503: "unavailable"}
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# Looking up the metric of a label takes longer than counting, so it is cached.
_requests = lru_cache(1024)(REQUESTS.labels)
_seconds = lru_cache(1024)(SECONDS.labels)
_heartbeats = lru_cache(16)(HEARTBEATS.labels)


class Measured:
    """Measure each request. This is the outermost middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        response = self.get_response(request)
        seconds = time.perf_counter() - started
        match, status = request.resolver_match, response.status_code
        route = match.route if match else "none"
        method = request.method if request.method in METHODS else "other"
        _requests(method, route, str(status)).inc()
        _seconds(method, route).observe(seconds)
        if match and match.url_name == HEARTBEAT_ROUTE:
            _heartbeats(OUTCOMES.get(status, "malformed" if status < 500 else "failed")).inc()
        return response
