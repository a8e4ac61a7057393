"""The objects that all modules of an installation use."""

from collections.abc import Callable
from dataclasses import dataclass

from agent.config import Config
from agent.jobs.journal import Journal
from agent.jobs.state import Job, JobResult
from agent.programs.launcher import ProgramLauncher
from agent.programs.supervisor import Supervisor
from agent.releases.blob_store import BlobStore
from agent.releases.releases import Releases


@dataclass(frozen=True, slots=True)
class InstallContext:
    """The device on which bundles are installed. `on_end` is called for each job that has ended."""

    config: Config
    journal: Journal
    supervisor: Supervisor
    blobs: BlobStore
    releases: Releases
    launcher: ProgramLauncher
    on_end: Callable[[Job, JobResult], None]
