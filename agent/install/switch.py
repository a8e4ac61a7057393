"""An installation after the point of no return, up to the commit or the rollback.

1. Run the pre-install hook, stop the old program, switch `current`, run the post-install hook, start the new program,
   and wait for the health gate.
2. Commit with one write: the new release becomes current, the old one previous, and the last report is queued.
3. If step 1 fails, point `current` to the committed release again and restart its program. This rollback needs no
   network and is idempotent: after a power cut, it is repeated.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from agent.atomic_files import is_disk_full
from agent.errors import InstallationFailed
from agent.install.context import InstallContext
from agent.jobs import reports
from agent.jobs.progress import enter_stage, record_timing, require_job
from agent.jobs.state import Job, JobKind, JobResult, Release, Stage
from agent.manifest import Manifest
from agent.manifest_parts import Hook
from agent.paths import BadManifest
from agent.programs.crash_loops import clear_stop, record_stop
from agent.programs.execution import run
from agent.programs.health import HealthGate
from agent.programs.health_reports import HealthReport
from agent.programs.logs import failure_message
from agent.programs.program import Program
from agent.programs.shim import CannotStart

logger = logging.getLogger(__name__)


class ReleaseSwitch:
    """Makes a complete release the current one, or returns to the committed one."""

    def __init__(self, context: InstallContext) -> None:
        self.context = context
        self.journal = context.journal
        self.supervisor = context.supervisor
        self.launcher = context.launcher

    def install(self, job: Job, manifest: Manifest) -> None:
        """Continue a deployment from the point of no return to its end."""
        release = _release(job, manifest)
        self.launcher.logs.discard_failed(job.product)
        try:
            self.context.releases.create_state_directory(job.product, job.manifest_sha256)
            self._run_hook(job, release, "pre_install", manifest.pre_install)
        except InstallationFailed as error:
            self.end(job, JobResult("failed", error.reason_code, str(error)))
            return
        started_at = time.monotonic()
        self._attempt(job, manifest, lambda: self._install(job, manifest, started_at))

    def go_back(self, job: Job, manifest: Manifest) -> None:
        """Make the job's release current again. It was installed before."""
        started_at = time.monotonic()
        self._attempt(job, manifest, lambda: self._go_back(job, manifest, started_at))

    def check_again(self, job: Job, manifest: Manifest) -> None:
        """Check the health of a release that is already installed. Start it first if it was stopped."""
        enter_stage(self.journal, job, Stage.STAGING, "checking")
        self.launcher.health.suspend(job.product)  # the gate checks the release instead
        current = self.journal.state.installed(job.product).current
        was_stopped = current is not None and bool(current.stopped)
        program: Program | None = None
        try:
            program = self._installed_program(job, manifest, current)
            health = self._gate(job, _release(job, manifest), program).wait(manifest.health)
        except InstallationFailed as error:
            health = HealthReport(False, str(error))
            result = JobResult("failed", error.reason_code, str(error))
            if was_stopped:
                self._stop_again(job, str(error))
        else:
            result = JobResult("succeeded", "", f"The release was already installed. {health}".strip())
            if was_stopped:
                self._record_restart(job)
        if not (was_stopped and result.state == "failed") and (program is not None or manifest.run is None):
            self.launcher.monitor(job.product, _release(job, manifest), manifest, program, health)
        self.end(job, result)

    def _installed_program(self, job: Job, manifest: Manifest, current: Release | None) -> Program | None:
        """Return the program of the committed release, and start it if it does not run. Raises `InstallationFailed`."""
        if manifest.run is None or current is None:
            return None
        if current.stopped:
            self.supervisor.stop(job.product)
            program = self.launcher.program(job.product, current, manifest)
            if program is not None:
                self._start(program)
            return program
        if self.supervisor.find(job.product) is None:
            self.launcher.activate(job.product, current)  # the release was damaged, and is complete again
            self.launcher.health.suspend(job.product)
        program = self.supervisor.find(job.product)
        if program is None:
            raise InstallationFailed("start_failed", f"The program of {job.product} cannot be started.")
        return program

    def _start(self, program: Program) -> None:
        try:
            self.supervisor.start(program)
        except CannotStart as error:
            raise InstallationFailed("start_failed", str(error)) from None

    def restart(self, job: Job) -> None:
        """Restart the program of the committed release, even if it was stopped because of a crash loop."""
        current = self.journal.state.installed(job.product).current
        manifest = self._manifest(job.product, current) if current is not None else None
        if current is None or manifest is None or manifest.run is None:
            self.end(job, JobResult("failed", "start_failed", f"{job.product} has no program that can be started."))
            return
        with self.journal.change() as state:
            recorded = require_job(state, job.key)
            recorded.version, recorded.manifest_sha256 = current.version, current.manifest_sha256
        self.launcher.health.suspend(job.product)
        self.supervisor.stop(job.product)
        self.check_again(recorded, manifest)

    def _manifest(self, product: str, release: Release) -> Manifest | None:
        try:
            return self.context.releases.manifest(product, release.manifest_sha256)
        except (OSError, BadManifest):
            return None

    def _record_restart(self, job: Job) -> None:
        """Record that a stopped release runs again. From now on, it belongs to the deployment that started it."""
        with self.journal.change() as state:
            current = state.product(job.product).current
            if current is not None:
                clear_stop(current)
                if job.deployment_id:
                    current.deployment_id, current.attempt, current.report = job.deployment_id, job.attempt, 0

    def _stop_again(self, job: Job, message: str) -> None:
        """Stop a release that is still not healthy. This job reports it, so no late report is needed."""
        self.supervisor.stop(job.product)
        with self.journal.change() as state:
            current = state.product(job.product).current
            if current is not None:
                record_stop(current, message)

    def roll_back(self, job: Job, result: JobResult) -> None:
        """Return to the committed release. This must work at any stage of the installation."""
        with self.journal.change() as state:
            recorded = require_job(state, job.key)
            recorded.stage, recorded.result = Stage.ROLLING_BACK, result
        committed = self.journal.state.installed(job.product).current
        self.launcher.health.suspend(job.product)
        self.supervisor.stop(job.product)
        self.supervisor.terminate_leftovers(self.launcher.mark(job.product))
        self.launcher.logs.keep_failed(job.product, Release(job.version, job.manifest_sha256))
        self._point_current_to(job.product, committed.manifest_sha256 if committed else "")
        if committed is not None:
            self.launcher.activate(job.product, committed)
        elif result.state == "rolled_back":
            result = JobResult("failed", result.reason_code, _without_previous(result.message))
        self.end(job, result)

    def end(self, job: Job, result: JobResult) -> None:
        """Record the result of a job. `Installer.collect` deletes the files that the job left on disk."""
        with self.journal.change() as state:
            recorded, current = require_job(state, job.key), state.installed(job.product).current
            reports.end_job(state, recorded, result)
            if current is not None and (current.deployment_id, current.attempt) == (job.deployment_id, job.attempt):
                current.report = max(current.report, recorded.report)
        level = logging.INFO if result.state == "succeeded" else logging.WARNING
        logger.log(
            level, "%s of %s: %s %s %s", job.kind, job.product, result.state, result.reason_code, result.message
        )  # fmt: skip
        self.context.on_end(job, result)

    def _attempt(self, job: Job, manifest: Manifest, switch: Callable[[], HealthReport]) -> None:
        try:
            health = switch()
        except InstallationFailed as error:
            self.roll_back(job, JobResult("rolled_back", error.reason_code, str(error)))
        except OSError as error:
            code = "no_space" if is_disk_full(error) else "internal"
            self.roll_back(job, JobResult("rolled_back", code, f"The installation failed: {error}"))
        else:
            self._commit(job, manifest, health)

    def _install(self, job: Job, manifest: Manifest, started_at: float) -> HealthReport:
        program = self._replace(job, manifest)
        self._run_hook(job, _release(job, manifest), "post_install", manifest.post_install)
        return self._start_and_check(job, manifest, program, started_at)

    def _go_back(self, job: Job, manifest: Manifest, started_at: float) -> HealthReport:
        program = self._replace(job, manifest)
        if job.kind is not JobKind.CRASH_LOOP:
            return self._start_and_check(job, manifest, program, started_at)
        if program is not None:
            self.supervisor.start_or_retry(program)
        return HealthReport(True)

    def _replace(self, job: Job, manifest: Manifest) -> Program | None:
        self.launcher.health.suspend(job.product)
        self.supervisor.stop(job.product)
        self._point_current_to(job.product, job.manifest_sha256)
        program = self.launcher.program(job.product, _release(job, manifest), manifest)
        if program is not None:
            program.log.begin()
        return program

    def _point_current_to(self, product: str, sha256: str) -> None:
        self.journal.write_with_ballast(lambda: self.context.releases.switch(product, sha256))

    def _run_hook(self, job: Job, release: Release, name: str, hook: Hook | None) -> None:
        if hook is None:
            return
        try:
            result = run(hook.command, self.launcher.context(job.product, release), hook.timeout_seconds)
        except CannotStart as error:
            raise InstallationFailed("hook_failed", f"The hook {name} cannot run: {error}") from None
        if result.exit_code is None:
            reason = f"The hook {name} took longer than {hook.timeout_seconds} s."
            raise InstallationFailed("hook_timeout", failure_message(reason, result.output))
        if result.exit_code != 0:
            reason = f"The hook {name} ended with exit code {result.exit_code}."
            raise InstallationFailed("hook_failed", failure_message(reason, result.output))

    def _start_and_check(
        self, job: Job, manifest: Manifest, program: Program | None, started_at: float
    ) -> HealthReport:
        if program is not None:
            self._start(program)
        checking_since = time.monotonic()
        record_timing(self.journal, job, "install", checking_since - started_at)
        enter_stage(self.journal, job, Stage.CHECKING, "checking")
        health = self._gate(job, _release(job, manifest), program).wait(manifest.health)
        record_timing(self.journal, job, "check", time.monotonic() - checking_since)
        return health

    def _gate(self, job: Job, release: Release, program: Program | None) -> HealthGate:
        context = self.launcher.context(job.product, release)
        return HealthGate(context, program, self.supervisor.poll, self.context.config.settle_seconds)

    def _commit(self, job: Job, manifest: Manifest, health: HealthReport) -> None:
        """Commit the new release, and monitor its health from now on."""
        result = JobResult("succeeded", "", str(health))
        is_checked = job.kind is not JobKind.CRASH_LOOP
        release, program = _release(job, manifest), self.supervisor.find(job.product)
        with self.journal.changed:  # no heartbeat may describe the new release before it is monitored
            failed = self._record_commit(job, release, result)
            self.launcher.monitor(job.product, release, manifest, program, health if is_checked else None)
        if failed is not None:
            self.launcher.logs.keep_failed(job.product, failed)
        logger.info("%s@%s is installed.", job.product, job.version)
        self.context.on_end(job, result)

    def _record_commit(self, job: Job, release: Release, result: JobResult) -> Release | None:
        """Commit with a single write. Return the release that crash-looped, if this rollback replaces one."""
        is_crash_loop = job.kind is JobKind.CRASH_LOOP
        with self.journal.change() as state:
            recorded, product = require_job(state, job.key), state.product(job.product)
            failed = product.current if is_crash_loop else None
            if failed is not None:
                message = "The program crashed repeatedly within the observation time."
                reports.queue_late(state, failed, "rolled_back", message)
            reports.end_job(state, recorded, result)
            # Drop a queued rollback of the old release: after this commit, it would return to that crashing release.
            state.jobs = [
                other for other in state.jobs if (other.kind, other.product) != (JobKind.CRASH_LOOP, job.product)
            ]
            product.previous = None if is_crash_loop else product.current
            product.current = replace(release, report=recorded.report)
        return failed


def _release(job: Job, manifest: Manifest) -> Release:
    """Return the release that a job installs."""
    has_program = manifest.run is not None
    return Release(
        job.version, job.manifest_sha256, job.deployment_id, job.attempt,
        is_observed=job.kind is JobKind.DEPLOY and has_program, has_program=has_program,
    )  # fmt: skip


def _without_previous(message: str) -> str:
    """Add to the first line of a message, which says why the installation failed, that no previous release exists."""
    reason, newline, output = message.partition("\n")
    return f"{reason} There is no previous release.{newline}{output}"
