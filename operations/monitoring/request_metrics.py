"""What each request adds to the process's figures: how long it took, how it ended, how heartbeats fare.

With `PROMETHEUS_MULTIPROC_DIR` set, as gunicorn.conf.py does, prometheus-client keeps these figures in files that all
workers share, so that whichever worker is asked answers for all.
"""

import time
from collections.abc import Callable
from functools import lru_cache

from django.http import HttpRequest, HttpResponse
from prometheus_client import Counter, Histogram

REQUESTS = Counter("kernex_requests", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram(
    "kernex_request_seconds",
    "How long requests took until their answer began.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
HEARTBEATS = Counter("kernex_heartbeats", "Heartbeats by outcome.", ["outcome"])

HEARTBEAT_ROUTE = "heartbeat"
OUTCOMES = {200: "taken", 401: "unproven", 403: "refused", 409: "sequence_used", 503: "unavailable"}
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# Finding a label's child again takes longer than counting.
_requests = lru_cache(1024)(REQUESTS.labels)
_seconds = lru_cache(1024)(SECONDS.labels)
_heartbeats = lru_cache(16)(HEARTBEATS.labels)


class Measured:
    """The middleware around all others."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        began = time.perf_counter()
        response = self.get_response(request)
        took = time.perf_counter() - began
        match, status = request.resolver_match, response.status_code
        route = match.route if match else "none"
        method = request.method if request.method in METHODS else "other"
        _requests(method, route, str(status)).inc()
        _seconds(method, route).observe(took)
        if match and match.url_name == HEARTBEAT_ROUTE:
            _heartbeats(OUTCOMES.get(status, "malformed" if status < 500 else "failed")).inc()
        return response
