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


SUCCEEDED = "succeeded"
UNSUCCESSFUL_STATES = ("failed_late", "failed", "rolled_back", "rejected", "timed_out", "cancelled")


@dataclass(frozen=True)
class Deployment(Resource):
    """`counts` is the number of devices with each result. All are zero until the server has planned the deployment.

    `observing` is how many of the successes may still fail late.
    """

    id: str = ""
    bundle: str = ""
    reverts: str = ""
    state: str = ""
    outcome: str = ""
    reason_code: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    observing: int = 0
    observation_seconds: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    phases: tuple[Mapping[str, Any], ...] = ()
    pause_reason: str = ""
    note: str = ""
    created_at: str = ""
    finished_at: str = ""

    @property
    def device_count(self) -> int:
        return sum(self.counts.values())

    @property
    def ended_count(self) -> int:
        return sum(self.counts.get(state, 0) for state in (SUCCEEDED, *UNSUCCESSFUL_STATES))

    @property
    def has_ended(self) -> bool:
        """True if it has ended on every device. A cancelled deployment can still have unfinished devices."""
        return bool(self.finished_at)

    @property
    def title(self) -> str:
        """What it deploys: `vad@1.0.0`, or `rollback of vad@1.0.0`."""
        return f"rollback of {self.bundle}" if self.reverts else self.bundle

    @property
    def shown_state(self) -> str:
        """The outcome if there is one: `finished` alone does not say whether the devices run the bundle."""
        return self.outcome or self.state

    @property
    def is_paused(self) -> bool:
        return self.state == "paused" and not self.has_ended

    @property
    def has_succeeded(self) -> bool:
        """True if it has the outcome `succeeded`, or if it succeeded on all its devices so far."""
        if self.outcome or not self.device_count:
            return self.outcome == SUCCEEDED
        return self.counts.get(SUCCEEDED, 0) == self.device_count

    @property
    def summary(self) -> str:
        """The counts that are not zero: `2 succeeded, 1 rolled back`."""
        counts = [f"{count} {state.replace('_', ' ')}" for state, count in self.counts.items() if count]
        return ", ".join(counts) or ("still choosing devices" if self.state == "planning" else "no devices")


@dataclass(frozen=True)
class Phase(Resource):
    """One phase of a deployment. `percent` or `count` is its size as requested; `device_count` is cumulative."""

    number: int = 0
    state: str = ""
    percent: int = 0
    count: int = 0
    device_count: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    evicted: int = 0
    soak_ends_at: str = ""

    @property
    def size(self) -> str:
        if self.percent:
            return f"{self.percent} %"
        return str(self.count) if self.count else "all"

    @property
    def cells(self) -> tuple[Any, ...]:
        """The phase as a row of a table."""
        numbers = [self.counts.get(name, 0) for name in ("admitted", "good", "bad", "lost")]
        soak_ends_at = self.soak_ends_at if self.state == "soaking" else ""
        return (self.number, self.state, self.size, *numbers, self.evicted, soak_ends_at)


@dataclass(frozen=True)
class DeviceDeployment(Resource):
    """One device's part in one deployment."""

    device: str = ""
    device_name: str = ""
    deployment: str = ""
    bundle: str = ""
    state: str = ""
    attempt: int = 0
    reason_code: str = ""
    message: str = ""
    late_outcome: Mapping[str, Any] = field(default_factory=dict)
    bytes_done: int = 0
    bytes_total: int = 0
    state_changed_at: str = ""

    @property
    def result(self) -> str:
        """The state, or `failed_late` for a success that failed within its observation time."""
        return "failed_late" if self.late_outcome else self.state

    @property
    def reason(self) -> str:
        """Why it ended, or why it failed late."""
        return str(self.late_outcome.get("reason_code") or self.reason_code)

    @property
    def message_lines(self) -> list[str]:
        """The non-empty lines of the device's message, or of the reason why it failed late."""
        message = str(self.late_outcome.get("message") or self.message)
        return [line.rstrip() for line in message.splitlines() if line.strip()]

    @property
    def last_line(self) -> str:
        """The last line of the message: in a traceback or a log, the one that says what went wrong."""
        return self.message_lines[-1].strip() if self.message_lines else ""

    @property
    def progress(self) -> str:
        """The downloaded share in percent."""
        return f"{100 * self.bytes_done // self.bytes_total} %" if self.bytes_total else ""


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
