"""Deployments, their phases and their devices as the API returns them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kernex_cli.resources import Resource

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
    next_step: str = ""
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
    waiting_for: Mapping[str, Any] = field(default_factory=dict)
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
    def comment(self) -> str:
        """What it waits for; after its end, the last line of the message."""
        return str(self.waiting_for.get("text") or self.last_line)

    @property
    def last_line(self) -> str:
        """The last line of the message: in a traceback or a log, the one that says what went wrong."""
        return self.message_lines[-1].strip() if self.message_lines else ""

    @property
    def progress(self) -> str:
        """The downloaded share in percent."""
        return f"{100 * self.bytes_done // self.bytes_total} %" if self.bytes_total else ""
