"""One job from its command to its end: the only place where `current` is switched.

1. A job that is found behind the point of no return was interrupted: it is rolled back.
2. Its release is made complete (fetching.py). Until here a cancel wins, and a failure leaves no trace.
3. The point of no return is crossed by one write to the journal, which loses against a cancel.
4. Pre-install hook, stop the old program, switch `current`, post-install hook, start the new program, health gate.
5. One write commits: the new release is current, the old one previous, the last report waits to be sent.
6. When 4 fails, `current` goes back to what is committed and that runs again, without any network. Doing it twice is
   harmless, so a power cut in the middle of it is one more reason to do it.
"""

import json
import logging
import threading
import time
from collections.abc import Callable

from agent import reports
from agent.blobs import Store
from agent.config import Config
from agent.control_plane import ControlPlane
from agent.errors import StepFailed
from agent.execution import CannotStart, Place, run
from agent.fetching import Fetcher
from agent.files import is_full
from agent.health import Gate, Verdict
from agent.journal import RETURNABLE, Job, Journal, Kind, Outcome, Product, Release, State, Step
from agent.manifest import Hook, Manifest
from agent.paths import BadManifest
from agent.releases import Releases
from agent.supervisor import Program, Supervisor

MAX_STARTS = 3
WORTH_A_START = 1024 * 1024
ANSWER_PATIENCE_SECONDS = 30.0

log = logging.getLogger(__name__)


class Unwanted(Exception):
    """The work is no longer wanted: cancelled, or ended by the server."""


class Stopping(Exception):
    """The agent stops; the job waits in the journal."""


class Installer:
    """Works on one job at a time."""

    def __init__(
        self, config: Config, journal: Journal, control: ControlPlane, supervisor: Supervisor, stop: threading.Event
    ) -> None:
        self.config = config
        self.journal = journal
        self.control = control
        self.supervisor = supervisor
        self.stop = stop
        self.patience_seconds = ANSWER_PATIENCE_SECONDS
        self.on_end: Callable[[Job, Outcome], None] = lambda *_: None
        self.store = Store(config.state_dir / "blobs")
        self.releases = Releases(config.state_dir / "products")

    def work(self, job: Job) -> None:
        """Bring a job to its end. Raises `Stopping` if the agent stops first, `OSError` if the disk fails."""
        try:
            if job.step not in RETURNABLE:
                self._roll_back(job, job.outcome or Outcome("rolled_back", "interrupted", "The agent was interrupted."))
            elif job.kind is Kind.DEPLOY:
                self._deploy(job)
            else:
                self._return(job)
        finally:
            self.collect()

    def collect(self) -> None:
        """Delete what nothing refers to."""
        state = self.journal.state
        if not state.jobs:
            self.store.keep_only(set())
        for product in self.releases.products():
            kept = state.installed(product)
            wanted = {one.manifest_sha256 for one in (kept.current, kept.previous) if one is not None}
            wanted |= {job.manifest_sha256 for job in state.jobs if job.product == product}
            self.releases.keep_only(product, wanted)
        self.releases.empty_trash()
        self.journal.refill()

    def _deploy(self, job: Job) -> None:
        try:
            self._begin(job)
            manifest = self._fetcher(job.key).prepare(job)
            current = self.journal.state.installed(job.product).current
            if current is not None and current.manifest_sha256 == job.manifest_sha256:
                self._check_again(job, manifest)
                return
            self._cross(job)
        except Unwanted:
            self._finish(job, Outcome("cancelled", "cancelled", "Cancelled before anything was changed."))
            return
        except Stopping:
            self._give_back(job)
            raise
        except StepFailed as error:
            self._finish(job, Outcome("rejected" if error.is_refusal else "failed", error.reason_code, str(error)))
            return
        self._install(job, manifest)

    def _begin(self, job: Job) -> None:
        """Count this start. One that follows a start which brought many bytes counts anew: it was no vicious circle."""
        self.check(job.key)
        with self.journal.change() as state:
            known = _job(state, job.key)
            brought = self.store.size()
            if brought - known.brought >= WORTH_A_START:
                known.starts = 0
            known.brought = brought
            known.starts += 1
            if known.starts > MAX_STARTS:
                raise StepFailed("attempts_exhausted", f"Begun {MAX_STARTS} times and interrupted each time.")

    def _give_back(self, job: Job) -> None:
        """An orderly stop is nobody's fault and does not count as a start."""
        with self.journal.change() as state:
            _job(state, job.key).starts -= 1

    def check(self, key: str) -> None:
        """Raise if the work on a job is to stop: `Unwanted` or `Stopping`."""
        job = self.journal.state.job(key)
        if job is None or job.is_cancelled or job.is_ended:
            raise Unwanted
        if self.stop.is_set():
            raise Stopping

    def pause(self, key: str, seconds: float) -> None:
        """Wait, unless the work is to stop."""
        ends_at = time.monotonic() + seconds
        while (left := ends_at - time.monotonic()) > 0:
            self.check(key)
            self.stop.wait(min(left, 0.5))

    def _fetcher(self, key: str) -> Fetcher:
        return Fetcher(
            self.config, self.journal, self.control, self.store, self.releases,
            check=lambda: self.check(key), pause=lambda seconds: self.pause(key, seconds),
        )  # fmt: skip

    def _cross(self, job: Job) -> None:
        """Pass the point of no return, if the server, asked for a moment, has nothing against it."""
        with self.journal.change() as state:
            reports.say(state, _job(state, job.key), "installing")
        gives_up_at = time.monotonic() + self.patience_seconds
        while any(one.key == job.key for one in self.journal.state.outbox) and time.monotonic() < gives_up_at:
            self.pause(job.key, 0.05)
        with self.journal.change() as state:
            known = _job(state, job.key)
            if known.is_cancelled or known.is_ended:
                raise Unwanted
            known.step = Step.INSTALLING

    def _install(self, job: Job, manifest: Manifest) -> None:
        """Everything between the point of no return and the commit."""
        try:
            self.releases.make_state(job.product, job.manifest_sha256)
            self._hook(job, "pre_install", manifest.pre_install)
        except StepFailed as error:
            self._finish(job, Outcome("failed", error.reason_code, str(error)))
            return
        try:
            begun = time.monotonic()
            program = self._switch(job, manifest)
            self._hook(job, "post_install", manifest.post_install)
            verdict = self._start_and_check(job, manifest, program, begun)
        except StepFailed as error:
            self._roll_back(job, Outcome("rolled_back", error.reason_code, str(error)))
        except OSError as error:
            code = "no_space" if is_full(error) else "internal"
            self._roll_back(job, Outcome("rolled_back", code, f"The installation failed: {error}"))
        else:
            self._commit(job, manifest, verdict)

    def _hook(self, job: Job, name: str, hook: Hook | None) -> None:
        if hook is None:
            return
        try:
            result = run(hook.command, self._place(job.product, job.version, job.manifest_sha256), hook.timeout_seconds)
        except CannotStart as error:
            raise StepFailed("hook_failed", f"{name}: {error}") from None
        if result.exit_code is None:
            raise StepFailed("hook_timeout", f"{name} took longer than {hook.timeout_seconds} s. {result.output}")
        if result.exit_code != 0:
            raise StepFailed("hook_failed", f"{name} ended with {result.exit_code}. {result.output}")

    def _switch(self, job: Job, manifest: Manifest) -> Program | None:
        self.supervisor.stop(job.product)
        self.releases.switch(job.product, job.manifest_sha256)
        return self.program(job.product, job.version, job.manifest_sha256, manifest)

    def _start_and_check(self, job: Job, manifest: Manifest, program: Program | None, begun: float) -> Verdict:
        if program is not None:
            try:
                self.supervisor.start(program)
            except CannotStart as error:
                raise StepFailed("start_failed", str(error)) from None
        started = time.monotonic()
        seconds = {"install": started - begun}
        self._fetcher(job.key).note(job, Step.CHECKING, "checking", seconds=seconds)
        verdict = self._gate(job, program).wait(manifest.health)
        self._fetcher(job.key).note(job, Step.CHECKING, seconds={"check": time.monotonic() - started})
        return verdict

    def _gate(self, job: Job, program: Program | None) -> Gate:
        place = self._place(job.product, job.version, job.manifest_sha256)
        return Gate(place, program, self.supervisor.poll, self.config.settle_seconds)

    def _check_again(self, job: Job, manifest: Manifest) -> None:
        """The very release runs already: nothing is to be switched, only its health is to be shown."""
        self._fetcher(job.key).note(job, Step.STAGING, "checking")
        try:
            verdict = self._gate(job, self.supervisor.find(job.product)).wait(manifest.health)
        except StepFailed as error:
            self._finish(job, Outcome("failed", error.reason_code, str(error)))
        else:
            self._finish(job, Outcome("succeeded", "", f"It was installed already. {_said(verdict)}".strip()))

    def _commit(self, job: Job, manifest: Manifest, verdict: Verdict) -> None:
        """The one write after which the new release stays."""
        outcome = Outcome("succeeded", "", _said(verdict))
        with self.journal.change() as state:
            known = _job(state, job.key)
            product = state.product(job.product)
            kept = product.current if job.kind is not Kind.CRASH_LOOP else None
            if job.kind is Kind.CRASH_LOOP and product.current is not None:
                reports.say_late(state, product.current, "The program ended again and again within its bake time.")
            reports.end(state, known, outcome)
            product.previous = kept
            product.current = Release(
                job.version, job.manifest_sha256, job.deployment_id, job.attempt, known.report,
                is_baking=job.kind is Kind.DEPLOY and manifest.run is not None, has_program=manifest.run is not None,
            )  # fmt: skip
        log.info("%s@%s is installed.", job.product, job.version)
        self.on_end(job, outcome)

    def _roll_back(self, job: Job, outcome: Outcome) -> None:
        """Go back to what is committed. Nothing here may depend on how far the installation had come."""
        with self.journal.change() as state:
            known = _job(state, job.key)
            known.step, known.outcome = Step.ROLLING_BACK, outcome
        committed = self.journal.state.installed(job.product).current
        self.supervisor.stop(job.product)
        self.supervisor.sweep(self._mark(job.product))
        self.releases.switch(job.product, committed.manifest_sha256 if committed else "")
        if committed is not None:
            self.bring_up(job.product, committed)
        elif outcome.state == "rolled_back":
            outcome = Outcome("failed", outcome.reason_code, f"{outcome.message} Nothing was installed before.")
        self._finish(job, outcome)

    def _return(self, job: Job) -> None:
        """Make the previous release current again, without any network."""
        previous = self.journal.state.installed(job.product).previous
        if previous is None:
            self._finish(job, Outcome("failed", "no_previous", f"{job.product} has no previous release."))
            return
        try:
            manifest = self.releases.manifest(job.product, previous.manifest_sha256)
            is_whole = self.releases.matches(job.product, previous.manifest_sha256, manifest, lambda: None)
        except (OSError, BadManifest):
            is_whole = False
        if not is_whole:
            self._finish(job, Outcome("failed", "bad_blob", f"The previous release of {job.product} is damaged."))
            return
        with self.journal.change() as state:
            job = _job(state, job.key)
            job.version, job.manifest_sha256 = previous.version, previous.manifest_sha256
            job.step = Step.INSTALLING
        self._return_to(job, manifest)

    def _return_to(self, job: Job, manifest: Manifest) -> None:
        try:
            begun = time.monotonic()
            program = self._switch(job, manifest)
            if job.kind is Kind.CRASH_LOOP:
                if program is not None:
                    self.supervisor.keep(program)
                verdict = Verdict(True)
            else:
                verdict = self._start_and_check(job, manifest, program, begun)
        except (StepFailed, OSError) as error:
            code = error.reason_code if isinstance(error, StepFailed) else "internal"
            self._roll_back(job, Outcome("rolled_back", code, str(error)))
        else:
            self._commit(job, manifest, verdict)

    def _finish(self, job: Job, outcome: Outcome) -> None:
        """Note the end of a job. What it left on disk is collected afterwards, and again after a power cut."""
        if job.step in RETURNABLE:
            # First make room: on a full disk even the note needs some.
            self.store.keep_only(set())
        with self.journal.change() as state:
            reports.end(state, _job(state, job.key), outcome)
        level = logging.INFO if outcome.state == "succeeded" else logging.WARNING
        log.log(level, "%s of %s: %s %s %s", job.kind, job.product, outcome.state, outcome.reason_code, outcome.message)
        self.on_end(job, outcome)

    def recover(self) -> None:
        """Begin where an agent before us ended: `current` is what is committed, and that runs.

        A product whose installation was interrupted waits for its job to be rolled back.
        """
        if self.journal.begins_anew:
            self._rebuild()
        state = self.journal.state
        interrupted = {job.product for job in state.jobs if job.step not in RETURNABLE}
        for product, installed in state.products.items():
            self.supervisor.sweep_commands(self._mark(product))
            if product not in interrupted and installed.current is not None:
                self.releases.switch(product, installed.current.manifest_sha256)
                self.bring_up(product, installed.current)

    def _rebuild(self) -> None:
        """Without a journal: what `current` names is committed; a complete release beside it is the previous one."""
        with self.journal.change() as state:
            for product in self.releases.products():
                found = {sha256: self._found(product, sha256) for sha256 in self.releases.complete(product)}
                current = found.pop(self.releases.current(product), None)
                if current is not None:
                    others = [release for release in found.values() if release is not None]
                    state.products[product] = Product(current, others[0] if len(others) == 1 else None)

    def _found(self, product: str, sha256: str) -> Release | None:
        try:
            manifest = self.releases.manifest(product, sha256)
        except (OSError, BadManifest):
            return None
        return Release(manifest.version, sha256, has_program=manifest.run is not None)

    def bring_up(self, product: str, release: Release) -> None:
        """Have the program of a committed release run: found again, or started unless it is in a crash loop."""
        try:
            manifest = self.releases.manifest(product, release.manifest_sha256)
        except (OSError, BadManifest) as error:
            log.error("The release of %s cannot be started: %s", product, error)
            return
        program = self.program(product, release.version, release.manifest_sha256, manifest)
        if program is None or self.supervisor.adopt(program):
            return
        if self.supervisor.may_restart(product):
            self.supervisor.keep(program)

    def program(self, product: str, version: str, sha256: str, manifest: Manifest) -> Program | None:
        """The program of a release, not started yet; None if it has no run command."""
        if manifest.run is None:
            return None
        place = self._place(product, version, sha256)
        self.releases.make_state(product, sha256)
        health = manifest.health
        health_file = place.state_directory / health.file if health is not None and health.file else None
        return Program(place, manifest.run, sha256, self.releases.product(product), health_file)

    def _place(self, product: str, version: str, sha256: str) -> Place:
        directory, state = self.releases.path(product, sha256), self.releases.state_path(product, sha256)
        return Place(directory, state, self._mark(product), product, version, self.config.python)

    def _mark(self, product: str) -> str:
        return str(self.releases.product(product))


def _job(state: State, key: str) -> Job:
    job = state.job(key)
    if job is None:
        raise Unwanted
    return job


def _said(verdict: Verdict) -> str:
    details = json.dumps(verdict.details, ensure_ascii=False) if verdict.details else ""
    return "\n".join(part for part in (verdict.message, details) if part)
