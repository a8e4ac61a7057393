"""The running bundles and the status of this device, as reported in heartbeats and by `kernex-agent status`."""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.atomic_files import read_json
from agent.jobs.journal import Journal
from agent.jobs.state import Release
from agent.machine import boot_id
from agent.programs.health_checks import short_message
from agent.programs.health_monitor import HealthMonitors
from agent.programs.health_reports import HealthReport
from agent.programs.processes import is_alive, start_time
from agent.state_dir import is_writable

FILE = "running.json"
MAX_FILE_SIZE = 1024 * 1024
SAVE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class BundleHealth:
    """The health of a bundle. `restarts` counts the unexpected exits of its program in the last 600 seconds."""

    healthy: bool
    restarts: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class RunningBundle:
    """A committed release and its health."""

    release: Release
    health: BundleHealth
    verdict: Mapping[str, object] = field(default_factory=dict)

    def body(self, omit_details: bool) -> dict[str, Any]:
        """Return the entry for a heartbeat. If `omit_details` is true, omit the data that comes from the program."""
        body: dict[str, Any] = {
            "version": self.release.version,
            "manifest_sha256": self.release.manifest_sha256,
            "healthy": self.health.healthy,
            "restarts": self.health.restarts,
        }
        if self.health.message and not omit_details:
            body["message"] = self.health.message
        if self.verdict and not omit_details:
            body["verdict"] = self.verdict
        return body


class RunningBundles:
    """Describes the committed releases and their health."""

    def __init__(self, journal: Journal, health: HealthMonitors) -> None:
        self.journal = journal
        self.health = health
        self.file = journal.path.with_name(FILE)
        self._described: dict[str, RunningBundle] | None = None
        self._saved: dict[str, BundleHealth] | None = None
        self._save_at = 0.0

    def describe(self, omit_details: bool) -> dict[str, Any]:
        """Return the fields `status` and `running_bundles` of a heartbeat.

        `status` is `busy` while a job runs, and `degraded` if a bundle is not healthy or the state directory cannot be
        written. If `omit_details` is true, the messages and verdicts of programs are left out.
        """
        is_busy = bool(self.journal.state.jobs)
        self._described = running = self._running()
        is_healthy = all(bundle.health.healthy for bundle in running.values()) and is_writable(self.file.parent)
        return {
            "status": "busy" if is_busy else "idle" if is_healthy else "degraded",
            "running_bundles": {product: bundle.body(omit_details) for product, bundle in running.items()},
        }

    def has_changes(self) -> bool:
        """Return whether a bundle's health has changed, or its program has restarted, since the last heartbeat.

        False before the first heartbeat, which has its own delay. A new bundle counts only if it is not healthy.
        """
        described = self._described
        if described is None:
            return False
        for product, bundle in self._running().items():
            before = described[product].health if product in described else BundleHealth(healthy=True)
            if bundle.health.healthy != before.healthy or bundle.health.restarts > before.restarts:
                return True
        return False

    def save(self) -> None:
        """Write the health of all bundles for `kernex-agent status`. Raises `OSError`.

        A bundle that becomes healthy or unhealthy is written immediately; other changes wait a few seconds. The file is
        not synced, because it is valid only while this process runs.
        """
        health = {product: bundle.health for product, bundle in self._running().items()}
        saved = self._saved
        is_urgent = saved is None or {name: bundle.healthy for name, bundle in health.items()} != {
            name: bundle.healthy for name, bundle in saved.items()
        }
        if health == saved or (time.monotonic() < self._save_at and not is_urgent):
            return
        self._save_at = time.monotonic() + SAVE_SECONDS
        own = {"pid": os.getpid(), "started": start_time(os.getpid()), "boot_id": boot_id()}
        bundles = {product: asdict(bundle) for product, bundle in health.items()}
        temporary = self.file.with_name(f"{FILE}.new")
        temporary.write_text(json.dumps({**own, "bundles": bundles}))
        temporary.replace(self.file)
        self._saved = health

    def remove_file(self) -> None:
        """Remove the file when this process stops monitoring the bundles."""
        with suppress(OSError):
            self.file.unlink(missing_ok=True)

    def _running(self) -> dict[str, RunningBundle]:
        with self.journal.changed:
            return {
                product: self._describe(product, installed.current)
                for product, installed in self.journal.state.products.items()
                if installed.current is not None
            }

    def _describe(self, product: str, release: Release) -> RunningBundle:
        monitor = self.health.find(product, release.manifest_sha256)
        program = monitor.program if monitor is not None else None
        restarts = program.recent_exits() if program is not None else 0
        if release.stopped:
            return RunningBundle(release, stopped_health(release.stopped, restarts))
        if monitor is None:
            message = "The program was not started." if release.has_program else ""
            return RunningBundle(release, BundleHealth(not release.has_program, 0, message))
        report = monitor.latest()
        return RunningBundle(release, BundleHealth(report.is_healthy, restarts, _message(report)), report.verdict)


def stopped_health(message: str, restarts: int = 0) -> BundleHealth:
    """Return the health of a release that was stopped because of a crash loop."""
    reason, _, output = message.partition("\n")
    return BundleHealth(False, restarts, short_message(reason, output))


def read_saved(state_dir: Path) -> dict[str, BundleHealth]:
    """Return the health of the bundles as the running agent saved it, or an empty dictionary if no agent runs."""
    try:
        saved = read_json(state_dir / FILE, MAX_FILE_SIZE)
        is_current = saved["boot_id"] == boot_id() and is_alive(int(saved["pid"]), int(saved["started"]))
        return {product: BundleHealth(**bundle) for product, bundle in saved["bundles"].items()} if is_current else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return {}


def _message(report: HealthReport) -> str:
    if report.is_healthy:
        return ""
    return short_message(report.message or "The program reports that it is not healthy.")
