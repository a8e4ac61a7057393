"""The health of a device, as its last heartbeat describes it."""

from collections.abc import Mapping
from typing import Any

from django.db.models import TextChoices


class Health(TextChoices):
    """`unknown` is never stored: it means that the device is not online."""

    HEALTHY = "healthy", "healthy"
    UNHEALTHY = "unhealthy", "unhealthy"
    RESTARTING = "restarting", "restarting"
    UNKNOWN = "unknown", "unknown"


def reported_health(running_bundles: Mapping[str, Mapping[str, Any]]) -> Health:
    """Return the health that these running bundles amount to, by product. The worst one decides.

    A bundle is `restarting` if its program exited unexpectedly in the last 10 minutes (`restarts`).
    """
    bundles = running_bundles.values()
    if not all(bundle["healthy"] for bundle in bundles):
        return Health.UNHEALTHY
    return Health.RESTARTING if any(bundle.get("restarts") for bundle in bundles) else Health.HEALTHY


def complaints(running_bundles: Mapping[str, Mapping[str, Any]]) -> str:
    """Say in one line which bundles are not healthy and why, or return an empty string."""
    lines = [
        _complaint(f"{product} {bundle.get('version', '')}".strip(), bundle)
        for product, bundle in sorted(running_bundles.items())
        if not bundle.get("healthy") or bundle.get("restarts")
    ]
    return "; ".join(lines)


def _complaint(label: str, bundle: Mapping[str, Any]) -> str:
    if bundle.get("healthy"):
        times = bundle["restarts"]
        return f"{label} restarted {times} {'time' if times == 1 else 'times'}"
    message = str(bundle.get("message") or "").strip()
    return f"{label} is unhealthy: {message}" if message else f"{label} is unhealthy"
