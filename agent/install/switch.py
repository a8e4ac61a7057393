"""What happens behind the point of no return: hooks, the switch, the health gate, and the commit or the way back.

1. Pre-install hook, stop the old program, switch `current`, post-install hook, start the new program, health gate.
2. One write commits: the new release is current, the old one previous, the last report waits to be sent.
3. When 1 fails, `current` goes back to what is committed and that runs again, without any network. Doing it twice is
   harmless, so a power cut in the middle of it is one more reason to do it.
"""

import json
import logging
import time
from collections.abc import Callable

from agent.atomic_files import is_disk_full
from agent.config import Config
from agent.errors import InstallationFailed
from agent.jobs import reports
from agent.jobs.journal import Journal
from agent.jobs.progress import enter_stage, record_timing, require_job
from agent.jobs.state import Job, JobResult, Kind, Release, Stage
from agent.manifest import Hook, Manifest
from agent.programs.execution import CannotStart, run
from agent.programs.health import Gate, Verdict
from agent.programs.launcher import Programs
from agent.programs.supervisor import Program, Supervisor
from agent.releases.releases import Releases

log = logging.getLogger(__name__)


class Switch:
    """Makes a complete release the current one, or goes back. `on_end` hears how each job ended."""

    def __init__(
        self, config: Config, journal: Journal, releases: Releases, supervisor: Supervisor, programs: Programs,
        on_end: Callable[[Job, JobResult], None],
    ) -> None:  # fmt: skip
        self.config = config
        self.journal = journal
        self.releases = releases
        self.supervisor = supervisor
        self.programs = programs
        self.on_end = on_end

    def install(self, job: Job, manifest: Manifest) -> None:
        """Everything between the point of no return and the end of a deployment."""
        self.programs.logs.discard_failed(job.product)
        try:
            self.releases.make_state(job.product, job.manifest_sha256)
            self._hook(job, "pre_install", manifest.pre_install)
        except InstallationFailed as error:
            self.end(job, JobResult("failed", error.reason_code, str(error)))
            return
        begun = time.monotonic()
        self._attempt(job, manifest, lambda: self._install(job, manifest, begun))

    def go_back(self, job: Job, manifest: Manifest) -> None:
        """Make the release that a job names, and that was installed before, current again."""
        begun = time.monotonic()
        self._attempt(job, manifest, lambda: self._go_back(job, manifest, begun))

    def check_again(self, job: Job, manifest: Manifest) -> None:
        """The very release runs already: nothing is to be switched, only its health is to be shown."""
        enter_stage(self.journal, job, Stage.STAGING, "checking")
        current = self.journal.state.installed(job.product).current
        if current is not None and manifest.run is not None and self.supervisor.find(job.product) is None:
            self.programs.bring_up(job.product, current)  # it was damaged, and is whole again
        try:
            program = self.supervisor.find(job.product)
            if manifest.run is not None and program is None:
                raise InstallationFailed("start_failed", f"The program of {job.product} cannot be started.")
            verdict = self._gate(job, program).wait(manifest.health)
        except InstallationFailed as error:
            self.end(job, JobResult("failed", error.reason_code, str(error)))
        else:
            self.end(job, JobResult("succeeded", "", f"It was installed already. {_said(verdict)}".strip()))

    def roll_back(self, job: Job, result: JobResult) -> None:
        """Go back to what is committed. Nothing here may depend on how far the installation had come."""
        with self.journal.change() as state:
            known = require_job(state, job.key)
            known.stage, known.result = Stage.ROLLING_BACK, result
        committed = self.journal.state.installed(job.product).current
        self.supervisor.stop(job.product)
        self.supervisor.sweep(self.programs.mark(job.product))
        self.programs.logs.keep_failed(job.product, job.version, job.manifest_sha256)
        self._point(job.product, committed.manifest_sha256 if committed else "")
        if committed is not None:
            self.programs.bring_up(job.product, committed)
        elif result.state == "rolled_back":
            result = JobResult("failed", result.reason_code, f"{result.message} Nothing was installed before.")
        self.end(job, result)

    def end(self, job: Job, result: JobResult) -> None:
        """Note how a job ended. What it left on disk is collected afterwards, and again after a power cut."""
        with self.journal.change() as state:
            reports.end_job(state, require_job(state, job.key), result)
        level = logging.INFO if result.state == "succeeded" else logging.WARNING
        log.log(level, "%s of %s: %s %s %s", job.kind, job.product, result.state, result.reason_code, result.message)
        self.on_end(job, result)

    def _attempt(self, job: Job, manifest: Manifest, switch: Callable[[], Verdict]) -> None:
        try:
            verdict = switch()
        except InstallationFailed as error:
            self.roll_back(job, JobResult("rolled_back", error.reason_code, str(error)))
        except OSError as error:
            code = "no_space" if is_disk_full(error) else "internal"
            self.roll_back(job, JobResult("rolled_back", code, f"The installation failed: {error}"))
        else:
            self._commit(job, manifest, verdict)

    def _install(self, job: Job, manifest: Manifest, begun: float) -> Verdict:
        program = self._replace(job, manifest)
        self._hook(job, "post_install", manifest.post_install)
        return self._start_and_check(job, manifest, program, begun)

    def _go_back(self, job: Job, manifest: Manifest, begun: float) -> Verdict:
        program = self._replace(job, manifest)
        if job.kind is not Kind.CRASH_LOOP:
            return self._start_and_check(job, manifest, program, begun)
        if program is not None:
            self.supervisor.keep(program)
        return Verdict(True)

    def _replace(self, job: Job, manifest: Manifest) -> Program | None:
        self.supervisor.stop(job.product)
        self._point(job.product, job.manifest_sha256)
        program = self.programs.program(job.product, job.version, job.manifest_sha256, manifest)
        if program is not None:
            program.log.begin()
        return program

    def _point(self, product: str, sha256: str) -> None:
        self.journal.write_with_ballast(lambda: self.releases.switch(product, sha256))

    def _hook(self, job: Job, name: str, hook: Hook | None) -> None:
        if hook is None:
            return
        place = self.programs.place(job.product, job.version, job.manifest_sha256)
        try:
            result = run(hook.command, place, hook.timeout_seconds)
        except CannotStart as error:
            raise InstallationFailed("hook_failed", f"{name}: {error}") from None
        if result.exit_code is None:
            raise InstallationFailed(
                "hook_timeout", f"{name} took longer than {hook.timeout_seconds} s. {result.output}"
            )
        if result.exit_code != 0:
            raise InstallationFailed("hook_failed", f"{name} ended with {result.exit_code}. {result.output}")

    def _start_and_check(self, job: Job, manifest: Manifest, program: Program | None, begun: float) -> Verdict:
        if program is not None:
            try:
                self.supervisor.start(program)
            except CannotStart as error:
                raise InstallationFailed("start_failed", str(error)) from None
        started = time.monotonic()
        record_timing(self.journal, job, "install", started - begun)
        enter_stage(self.journal, job, Stage.CHECKING, "checking")
        verdict = self._gate(job, program).wait(manifest.health)
        record_timing(self.journal, job, "check", time.monotonic() - started)
        return verdict

    def _gate(self, job: Job, program: Program | None) -> Gate:
        place = self.programs.place(job.product, job.version, job.manifest_sha256)
        return Gate(place, program, self.supervisor.poll, self.config.settle_seconds)

    def _commit(self, job: Job, manifest: Manifest, verdict: Verdict) -> None:
        """The one write after which the new release stays."""
        result = JobResult("succeeded", "", _said(verdict))
        is_crash_loop = job.kind is Kind.CRASH_LOOP
        with self.journal.change() as state:
            known, product = require_job(state, job.key), state.product(job.product)
            failed = product.current if is_crash_loop else None
            if failed is not None:
                reports.queue_late(state, failed, "The program ended again and again within its bake time.")
            reports.end_job(state, known, result)
            # A crash loop of what was current until now is over; going back would lead to it.
            state.jobs = [one for one in state.jobs if (one.kind, one.product) != (Kind.CRASH_LOOP, job.product)]
            product.previous = None if is_crash_loop else product.current
            product.current = Release(
                job.version, job.manifest_sha256, job.deployment_id, job.attempt, known.report,
                is_baking=job.kind is Kind.DEPLOY and manifest.run is not None, has_program=manifest.run is not None,
            )  # fmt: skip
        if failed is not None:
            self.programs.logs.keep_failed(job.product, failed.version, failed.manifest_sha256)
        log.info("%s@%s is installed.", job.product, job.version)
        self.on_end(job, result)


def _said(verdict: Verdict) -> str:
    details = json.dumps(verdict.details, ensure_ascii=False) if verdict.details else ""
    return "\n".join(part for part in (verdict.message, details) if part)
