"""The launcher: starts the programs of committed releases, even after a crash of the agent or the machine."""

import logging
from pathlib import Path

from agent.config import Config
from agent.jobs.journal import Journal
from agent.jobs.state import DROPPABLE, Product, Release
from agent.manifest import Manifest
from agent.paths import BadManifest
from agent.programs.crash_loops import is_rollback_waiting
from agent.programs.execution import CommandContext
from agent.programs.health_monitor import HealthMonitor, HealthMonitors
from agent.programs.health_reports import HealthReport
from agent.programs.logs import ProgramLogs
from agent.programs.program import Program
from agent.programs.supervisor import Supervisor
from agent.releases.releases import Releases

logger = logging.getLogger(__name__)


class ProgramLauncher:
    """Starts the programs of committed releases, and monitors their health."""

    def __init__(self, config: Config, journal: Journal, releases: Releases, supervisor: Supervisor) -> None:
        self.config = config
        self.journal = journal
        self.releases = releases
        self.supervisor = supervisor
        self.logs = ProgramLogs(config.state_dir)
        self.health = HealthMonitors()

    def recover(self) -> None:
        """Continue the work of an earlier agent: activate the committed release of each product.

        A product whose installation was interrupted waits until its job is rolled back.
        """
        if self.journal.needs_rebuild:
            self._rebuild()
        state = self.journal.state
        interrupted = {job.product for job in state.jobs if job.stage not in DROPPABLE}
        for product, installed in state.products.items():
            self.supervisor.terminate_leftover_commands(self.mark(product))
            if product not in interrupted and installed.current is not None:
                self.activate(product, installed.current)

    def activate(self, product: str, release: Release) -> None:
        """Point `current` to a committed release, and adopt or start its program unless it crash-looped.

        If a product is damaged, the other products and the agent are not affected.
        """
        try:
            self._activate(product, release)
        except OSError as error:
            logger.error("%s %s cannot be started. %s", product, release.version, error)

    def _activate(self, product: str, release: Release) -> None:
        try:
            manifest = self.releases.manifest(product, release.manifest_sha256)
        except (OSError, BadManifest) as error:
            logger.error("The release %s of %s is damaged; deploy another version. %s", release.version, product, error)
            return
        if self.releases.is_complete(product, release.manifest_sha256):
            self.journal.write_with_ballast(lambda: self.releases.switch(product, release.manifest_sha256))
        self.health.suspend(product)
        program = self.program(product, release, manifest)
        if release.stopped:
            self.supervisor.terminate_leftovers(self.mark(product))
            logger.warning("%s is not started, because it crashed repeatedly.", product)
            return
        if program is not None and not self.supervisor.adopt(program):
            if is_rollback_waiting(self.journal.state, product):
                return
            self.supervisor.start_or_retry(program)
        self.monitor(product, release, manifest, program)

    def monitor(
        self,
        product: str,
        release: Release,
        manifest: Manifest,
        program: Program | None,
        gate_report: HealthReport | None = None,
    ) -> None:
        """Check a committed release from now on. `gate_report` is the result of the health gate."""
        context = self.context(product, release)
        self.health.start(
            product, HealthMonitor(release.manifest_sha256, context, manifest.health, program, gate_report)
        )

    def program(self, product: str, release: Release, manifest: Manifest) -> Program | None:
        """Return the program of a release without starting it; None if the release has no run command."""
        if manifest.run is None:
            return None
        context = self.context(product, release)
        self.releases.create_state_directory(product, release.manifest_sha256)
        health_file: Path | None = None
        if manifest.health is not None and manifest.health.file:
            health_file = context.state_directory / manifest.health.file
        log = self.logs.of(product, release)
        directory = self.releases.product(product)
        return Program(context, manifest.run, release.manifest_sha256, directory, log, health_file)

    def context(self, product: str, release: Release) -> CommandContext:
        """Return the context in which the commands of a release run."""
        directory = self.releases.path(product, release.manifest_sha256)
        state = self.releases.state_path(product, release.manifest_sha256)
        return CommandContext(directory, state, self.mark(product), product, release.version, self.config.python)

    def mark(self, product: str) -> str:
        """Return the mark that all processes of a product have in their environment."""
        return str(self.releases.product(product))

    def _rebuild(self) -> None:
        """Add products that are missing from the journal: the release that `current` points to is committed.

        A release that was being installed is not committed yet, even if `current` already points to it. If there is
        exactly one other complete release, it is the previous one.
        """
        with self.journal.change() as state:
            unfinished = {job.manifest_sha256 for job in state.jobs if job.stage not in DROPPABLE}
            for product in self.releases.products():
                if product in state.products:
                    continue
                complete = {sha256: self._read(product, sha256) for sha256 in self.releases.complete(product)}
                releases = {sha256: release for sha256, release in complete.items() if release is not None}
                committed = {sha256: release for sha256, release in releases.items() if sha256 not in unfinished}
                current = committed.pop(self.releases.current(product), None)
                others = list(committed.values())
                if current is None and len(others) == 1 and self.releases.current(product) in unfinished:
                    current, others = others[0], []
                if current is not None:
                    state.products[product] = Product(current, others[0] if len(others) == 1 else None)

    def _read(self, product: str, sha256: str) -> Release | None:
        try:
            manifest = self.releases.manifest(product, sha256)
        except (OSError, BadManifest):
            return None
        return Release(manifest.version, sha256, has_program=manifest.run is not None)
