"""The install machine: takes one deployment from its command to its last word, whatever interrupts it.

    accepted ─► fetching ─► staging ─┃─► switching ─► starting ─► checking ─► committing ─► reporting
        nothing of the device changed ┃ point of no return                └─ health has passed

Each step is on disk before its work begins. After a kill, what stands left of the point of no return is done again (or
given up after three starts); what stands between it and the health gate is rolled back; what stands right of that is
finished. A cancel wins until the pre-install hook begins; after that the device's word counts.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

from agent import health, processes
from agent.backoff import Backoff
from agent.blobs import Blobs
from agent.config import Config
from agent.errors import AgentError, Answered, DeploymentFailed, Refused, Stopped, Unreachable
from agent.manifest import Manifest, parse
from agent.outbox import Outbox
from agent.processes import Place
from agent.releases import Product
from agent.state import AFTER_HEALTHY, BEFORE_POINT_OF_NO_RETURN, Job
from agent.supervisor import Supervisor
from agent.transport import Server

log = logging.getLogger(__name__)

STARTS_ALLOWED = 3
REPORT_EVERY_SECONDS = 5.0


class Installer:
    """Works on one job. `stop` is set when the agent shall end, `cancel` when the operator changed their mind."""

    def __init__(
        self, config: Config, server: Server, product: Product, supervisor: Supervisor, blobs: Blobs, outbox: Outbox,
        job: Job,
    ) -> None:  # fmt: skip
        self.config = config
        self.server = server
        self.product = product
        self.supervisor = supervisor
        self.blobs = blobs
        self.outbox = outbox
        self.job = job
        self.stop = Event()
        self.cancel = Event()

    def work(self) -> None:
        """Bring the job to its end. Raises `Stopped` if the agent shall end first; the next start goes on."""
        if self.job.cancel:
            self.cancel.set()
        try:
            if self.job.step in BEFORE_POINT_OF_NO_RETURN:
                manifest = self._prepare()
                self._install(manifest)
            elif self.job.step not in AFTER_HEALTHY:
                self._roll_back(DeploymentFailed("interrupted", "The agent was killed while the release was switched."))
        except Refused as error:
            self._end("rejected", error)
        except DeploymentFailed as error:
            self._end("cancelled" if error.reason_code == "cancelled" else "failed", error)
        if self.job.step == "committing":
            self._commit()
        self._report_outcome()

    # -- before the point of no return

    def _prepare(self) -> Manifest:
        job = self.job
        if job.starts > STARTS_ALLOWED:
            raise DeploymentFailed("attempts_exhausted", f"Interrupted {STARTS_ALLOWED} times before it was installed.")
        if job.step == "accepted":
            self._say("accepted")
        began = time.monotonic()
        job.move_to("fetching")
        self._say("downloading")
        body = self._patiently(lambda: self.server.fetch(self._manifest_path(), job.manifest_size))
        manifest = parse(body, job.manifest_sha256, job.product, job.version)
        self._preflight(manifest)
        self._fetch(manifest)
        job.timings["download"] = time.monotonic() - began
        job.move_to("staging")
        self._say("installing")
        self.product.make()
        self.product.keep_manifest(manifest.sha256, body)
        self.product.stage(manifest, self.blobs, self._check)
        self._check()
        return manifest

    def _manifest_path(self) -> str:
        return f"/api/v1/trust/targets/{self.job.product}/{self.job.manifest_sha256}.{self.job.version}.json"

    def _preflight(self, manifest: Manifest) -> None:
        """Raises `Refused` for what this device cannot hold or run."""
        if manifest.device_types and self.config.device_type not in manifest.device_types:
            raise Refused("wrong_device_type", f"The bundle is for {', '.join(manifest.device_types)}.")
        if manifest.memory > memory_size():
            raise Refused(
                "no_memory", f"The bundle needs {manifest.memory} bytes of memory, there are {memory_size()}."
            )
        missing = sum(file.size - self.blobs.partial_size(file.sha256) for file in self.blobs.missing(manifest.files))
        copies = 0 if self.product.is_installed(manifest.sha256) else sum(file.size for file in manifest.files)
        needed = max(missing + copies, manifest.disk) + self.config.free_space_margin
        free = shutil.disk_usage(self.product.root.parent).free
        if needed > free:
            raise Refused("no_space", f"{needed} bytes of disk are needed, {free} are free.")

    def _fetch(self, manifest: Manifest) -> None:
        if self.product.is_installed(manifest.sha256):
            return
        total = sum({file.sha256: file.size for file in manifest.files}.values())
        missing = self.blobs.missing(manifest.files)
        done = total - sum(file.size - self.blobs.partial_size(file.sha256) for file in missing)
        reported_at = time.monotonic()

        def on_bytes(count: int) -> None:
            nonlocal done, reported_at
            self._check()
            done += count
            if time.monotonic() - reported_at >= REPORT_EVERY_SECONDS:
                reported_at = time.monotonic()
                self._say("downloading", (min(done, total), total))

        for file in missing:
            self._patiently(lambda file=file: self.blobs.fetch(self.server, file, on_bytes))  # type: ignore[misc]

    def _patiently(self, attempt: Callable[[], Any]) -> Any:
        """Try until the server answers. An answer that says no ends the deployment; a full disk does as well."""
        backoff = Backoff(self.config.max_retry_seconds)
        while True:
            self._check()
            try:
                return attempt()
            except Unreachable as error:
                log.warning("%s; trying again.", error)
                pause = backoff.next(error.retry_after_seconds)
            except Answered as error:
                raise DeploymentFailed("download_failed", f"The server refuses: {error}") from error
            except OSError as error:
                raise DeploymentFailed("no_space" if error.errno == 28 else "internal", str(error)) from error
            until = time.monotonic() + pause
            while time.monotonic() < until:
                self._check()
                time.sleep(0.1)

    def _check(self) -> None:
        """Called at every point at which work may stop before the point of no return."""
        if self.cancel.is_set():
            raise DeploymentFailed("cancelled", "Cancelled by an operator.")
        if self.stop.is_set():
            raise Stopped

    # -- after it

    def _install(self, manifest: Manifest) -> None:
        began = time.monotonic()
        self.job.previous = self.product.current
        self.job.move_to("switching")
        try:
            self._switch(manifest)
            self.job.timings["install"] = time.monotonic() - began
            self._pass_health_gate(manifest)
        except (DeploymentFailed, OSError) as error:
            failure = error if isinstance(error, DeploymentFailed) else DeploymentFailed("internal", str(error))
            self._roll_back(failure)

    def _switch(self, manifest: Manifest) -> None:
        place = self.place(manifest.sha256)
        if manifest.sha256 == self.product.current:
            self.supervisor.stop()  # it works in the directory that is about to be made anew
        shutil.rmtree(place.state, ignore_errors=True)
        place.state.mkdir(mode=0o700)
        self._hook(manifest, "pre_install", place)
        self.supervisor.stop()
        self.product.point("current", manifest.sha256)
        self._hook(manifest, "post_install", place)
        self.job.move_to("starting")
        try:
            self.supervisor.start(manifest, place)
        except OSError as error:
            raise DeploymentFailed("start_failed", f"The program could not be started: {error}") from error

    def _hook(self, manifest: Manifest, name: str, place: Place) -> None:
        hook = manifest.hooks.get(name)
        if hook is not None:
            processes.run_hook(self.config, place, name, hook.command, hook.timeout_seconds, lambda: None)

    def _pass_health_gate(self, manifest: Manifest) -> None:
        began = time.monotonic()
        self.job.move_to("checking")
        self._say("checking")
        if manifest.health is not None:
            verdict = health.wait_until_healthy(
                self.config, self.place(manifest.sha256), manifest.health, self.supervisor, lambda: None
            )
            self.job.message = json.dumps(verdict) if verdict else ""
        self.job.timings["health"] = time.monotonic() - began
        self.job.move_to("committing")

    def _roll_back(self, failure: DeploymentFailed) -> None:
        """Bring the release back that ran before. Needs no network; may itself be interrupted and done again."""
        log.error("%s %s: %s", self.job.product, self.job.version, failure)
        self.supervisor.stop()
        restore(self.product, self.job.previous, self.supervisor)
        self._end("rolled_back" if self.job.previous else "failed", failure)

    def _commit(self) -> None:
        """The new release stays. What it replaced is kept for a rollback; everything else goes."""
        if self.job.previous != self.job.manifest_sha256:
            self.product.point("previous", self.job.previous)
        self.job.outcome = "succeeded"
        self.job.report += 1
        self.job.move_to("reporting")

    # -- words

    def _end(self, outcome: str, failure: DeploymentFailed) -> None:
        self.job.outcome = outcome
        self.job.reason_code = failure.reason_code
        self.job.message = str(failure)
        self.job.report += 1
        self.job.move_to("reporting")

    def _say(self, state: str, progress: tuple[int, int] | None = None) -> None:
        self.job.report += 1
        self.job.save()
        self.outbox.add(self.job, state, progress)

    def _report_outcome(self) -> None:
        """Put the last word into the outbox, clean up, and forget the job, in this order: each may be repeated."""
        self.outbox.add(self.job, self.job.outcome)
        self.product.keep_only({self.product.current, self.product.previous} - {""})
        self.blobs.clear()
        log.info("%s %s: %s", self.job.product, self.job.version, self.job.outcome)
        self.job.finish()

    def place(self, sha256: str) -> Place:
        return place_of(self.product, sha256)


def place_of(product: Product, sha256: str) -> Place:
    return Place(product.release(sha256), product.state(sha256))


def restore(product: Product, sha256: str, supervisor: Supervisor) -> None:
    """Make an installed release the current one again and start it; with an empty `sha256`, leave none."""
    product.point("current", sha256)
    if not sha256:
        return
    try:
        place = place_of(product, sha256)
        place.state.mkdir(mode=0o700, exist_ok=True)
        supervisor.start(product.manifest(sha256), place)
    except (OSError, AgentError) as error:
        log.error("The previous release of %s could not be started: %s", product.name, error)


def memory_size() -> int:
    """The device's memory in bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0
