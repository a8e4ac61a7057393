"""From releases to programs: what is committed runs, also after a crash of the agent or of the machine."""

import logging
from pathlib import Path

from agent.config import Config
from agent.jobs.journal import Journal
from agent.jobs.state import DROPPABLE, Product, Release
from agent.manifest import Manifest
from agent.paths import BadManifest
from agent.programs.execution import Place
from agent.programs.logs import ProgramLogs
from agent.programs.supervisor import Program, Supervisor
from agent.releases.releases import Releases

logger = logging.getLogger(__name__)


class Programs:
    """Brings the programs of committed releases up."""

    def __init__(self, config: Config, journal: Journal, releases: Releases, supervisor: Supervisor) -> None:
        self.config = config
        self.journal = journal
        self.releases = releases
        self.supervisor = supervisor
        self.logs = ProgramLogs(config.state_dir)

    def recover(self) -> None:
        """Begin where an agent before us ended: `current` is what is committed, and that runs.

        A product whose installation was interrupted waits for its job to be rolled back.
        """
        if self.journal.needs_rebuild:
            self._rebuild()
        state = self.journal.state
        interrupted = {job.product for job in state.jobs if job.stage not in DROPPABLE}
        for product, installed in state.products.items():
            self.supervisor.sweep_commands(self.mark(product))
            if product not in interrupted and installed.current is not None:
                self.bring_up(product, installed.current)

    def bring_up(self, product: str, release: Release) -> None:
        """Have a committed release current and its program running: found again, or started unless it crash-loops.

        A product that is damaged stops neither the others nor the agent.
        """
        try:
            self._bring_up(product, release)
        except OSError as error:
            logger.error("%s %s cannot be brought up. %s", product, release.version, error)

    def _bring_up(self, product: str, release: Release) -> None:
        try:
            manifest = self.releases.manifest(product, release.manifest_sha256)
        except (OSError, BadManifest) as error:
            logger.error("The release %s of %s is damaged; deploy another version. %s", release.version, product, error)
            return
        if self.releases.is_complete(product, release.manifest_sha256):
            self.journal.write_with_ballast(lambda: self.releases.switch(product, release.manifest_sha256))
        program = self.program(product, release.version, release.manifest_sha256, manifest)
        if program is None or self.supervisor.adopt(program):
            return
        if self.supervisor.may_restart(product):
            self.supervisor.keep(program)

    def program(self, product: str, version: str, sha256: str, manifest: Manifest) -> Program | None:
        """The program of a release, not started yet; None if it has no run command."""
        if manifest.run is None:
            return None
        place = self.place(product, version, sha256)
        self.releases.make_state(product, sha256)
        health = manifest.health
        health_file: Path | None = None
        if health is not None and health.file:
            health_file = place.state_directory / health.file
        log = self.logs.of(product, version, sha256)
        return Program(place, manifest.run, sha256, self.releases.product(product), log, health_file)

    def place(self, product: str, version: str, sha256: str) -> Place:
        directory, state = self.releases.path(product, sha256), self.releases.state_path(product, sha256)
        return Place(directory, state, self.mark(product), product, version, self.config.python)

    def mark(self, product: str) -> str:
        """What all processes of a product carry in their environment."""
        return str(self.releases.product(product))

    def _rebuild(self) -> None:
        """Take over from disk what the journal does not say: what `current` names is committed.

        A release that was being installed is not committed yet, even if `current` names it already. The one other
        complete release, if there is exactly one, is the previous one.
        """
        with self.journal.change() as state:
            unfinished = {job.manifest_sha256 for job in state.jobs if job.stage not in DROPPABLE}
            for product in self.releases.products():
                if product in state.products:
                    continue
                found = {sha256: self._found(product, sha256) for sha256 in self.releases.complete(product)}
                releases = {sha256: release for sha256, release in found.items() if release is not None}
                committed = {sha256: release for sha256, release in releases.items() if sha256 not in unfinished}
                current = committed.pop(self.releases.current(product), None)
                others = list(committed.values())
                if current is None and len(others) == 1 and self.releases.current(product) in unfinished:
                    current, others = others[0], []
                if current is not None:
                    state.products[product] = Product(current, others[0] if len(others) == 1 else None)

    def _found(self, product: str, sha256: str) -> Release | None:
        try:
            manifest = self.releases.manifest(product, sha256)
        except (OSError, BadManifest):
            return None
        return Release(manifest.version, sha256, has_program=manifest.run is not None)
