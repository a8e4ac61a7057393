"""The running bundles and the status of this device, as reported in heartbeats."""

from typing import Any

from agent.jobs.journal import Journal
from agent.jobs.state import Release
from agent.programs.health_reports import read_file
from agent.programs.supervisor import Supervisor
from agent.state_dir import is_writable


class RunningBundles:
    """Describes the committed releases and their programs."""

    def __init__(self, journal: Journal, supervisor: Supervisor) -> None:
        self.journal = journal
        self.supervisor = supervisor

    def describe(self, omit_details: bool) -> dict[str, Any]:
        """Return the fields `status` and `running_bundles` of a heartbeat.

        `status` is `busy` while a job runs, and `degraded` if a bundle is not healthy or the state directory cannot be
        written. If `omit_details` is true, the verdicts of programs are left out.
        """
        state = self.journal.state
        running = {
            product: self._describe(product, installed.current, omit_details)
            for product, installed in state.products.items()
            if installed.current is not None
        }
        is_healthy = all(bundle["healthy"] for bundle in running.values()) and is_writable(self.journal.path.parent)
        return {"status": "busy" if state.jobs else "idle" if is_healthy else "degraded", "running_bundles": running}

    def _describe(self, product: str, release: Release, omit_details: bool) -> dict[str, Any]:
        description: dict[str, Any] = {"version": release.version, "manifest_sha256": release.manifest_sha256}
        program = self.supervisor.find(product)
        if program is None or program.release != release.manifest_sha256:
            return description | {"healthy": not release.has_program}
        description["healthy"] = program.is_running or not release.has_program
        if program.health_file is not None:
            verdict = read_file(program.health_file)
            description["healthy"] = description["healthy"] and verdict is not None and verdict.is_healthy
            if verdict is not None and verdict.verdict and not omit_details:
                description["verdict"] = verdict.verdict
        return description
