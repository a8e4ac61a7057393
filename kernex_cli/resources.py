"""Dataclasses for the API's JSON objects. Their fields have the API's names; unknown fields are ignored."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from kernex_cli.formatting import SHORT_ID_LENGTH


@dataclass(frozen=True)
class Resource:
    """The base of all resources."""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Build the resource from the API's JSON object. A field that is null or missing gets its default."""
        names = [each.name for each in fields(cls)]
        return cls(**{name: document[name] for name in names if document.get(name) is not None})


@dataclass(frozen=True)
class RunningBundle:
    """A bundle that a device reports as running. `verdict` is what the bundle reports about itself."""

    product: str
    version: str
    is_healthy: bool
    verdict: Mapping[str, Any]
    restarts: int = 0
    message: str = ""

    @property
    def label(self) -> str:
        return f"{self.product}@{self.version}"

    @property
    def health(self) -> str:
        if not self.is_healthy:
            return "unhealthy"
        return f"restarted {self.restarts} times" if self.restarts else "healthy"


@dataclass(frozen=True)
class Device(Resource):
    id: str = ""
    name: str = ""
    state: str = ""
    online: bool = False
    health: str = ""
    group: str = ""
    tags: tuple[str, ...] = ()
    test: bool = False
    device_type: str = ""
    agent_version: str = ""
    status: str = ""
    running_bundles: Mapping[str, Any] = field(default_factory=dict)
    last_heartbeat_at: str = ""
    registered_at: str = ""
    hardware: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def display_name(self) -> str:
        return self.name or self.id[:SHORT_ID_LENGTH]

    @property
    def liveness(self) -> str:
        return "online" if self.online else "offline"

    @property
    def running(self) -> list[RunningBundle]:
        """The running bundles, unhealthy ones first."""
        releases = [
            RunningBundle(
                product,
                str(release.get("version", "")),
                bool(release.get("healthy")),
                release.get("verdict") or {},
                release.get("restarts") or 0,
                str(release.get("message") or ""),
            )
            for product, release in sorted(self.running_bundles.items())
        ]
        return sorted(releases, key=lambda release: release.is_healthy)


@dataclass(frozen=True)
class Group(Resource):
    """A group of devices. A dynamic one has a query and no interval."""

    name: str = ""
    description: str = ""
    query: str = ""
    interval_seconds: int = 0

    @property
    def summary(self) -> str:
        if self.query:
            return f"Group {self.name}: devices that match {self.query}"
        return f"Group {self.name}: devices report every {self.interval_seconds} s."


@dataclass(frozen=True)
class Bundle(Resource):
    name: str = ""
    version: str = ""
    state: str = ""
    state_reason: str = ""
    size: int = 0
    file_count: int = 0
    created_at: str = ""
    missing: tuple[Mapping[str, Any], ...] = ()

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def missing_size(self) -> int:
        """The number of bytes that the server does not have or has not verified."""
        return sum(blob["size"] for blob in self.missing)


@dataclass(frozen=True)
class Command(Resource):
    """A command that the server sent to a device, and its outcome."""

    id: int = 0
    kind: str = ""
    state: str = ""
    outcome: str = ""
    outcome_message: str = ""
    created_at: str = ""


@dataclass(frozen=True)
class Event(Resource):
    at: str = ""
    kind: str = ""
    actor: str = ""
    message: str = ""
    device_id: str = ""
    deployment_id: str = ""


@dataclass(frozen=True)
class LogRequest(Resource):
    """An operator's request for a device's logs."""

    id: str = ""
    state: str = ""
    reason: str = ""
    size: int = 0
    batches: int = 0

    @property
    def has_ended(self) -> bool:
        return self.state in ("complete", "failed", "expired")
