"""The contents of the journal: jobs, installed releases, waiting reports, commands and log requests.

A job goes through these stages:

    accepted ─► fetching ─► staging ─┊─► installing ─► checking ─► (gone: committed)
        └───────────┴──────────┴──► (gone)      └──────────┴──► rolling_back ─► (gone)

┊ is the point of no return. Before it, nothing has changed, so a job can be dropped. After it, an interrupted job is
rolled back.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

KEPT_ENDED = 500


class JobKind(StrEnum):
    """The type of a job: install a release, roll back on request or after a crash loop, or restart a program."""

    DEPLOY = "deploy"
    ROLL_BACK = "roll_back"
    CRASH_LOOP = "crash_loop"
    RESTART = "restart"


class Stage(StrEnum):
    """The stage that a job has reached."""

    ACCEPTED = "accepted"
    FETCHING = "fetching"
    STAGING = "staging"
    INSTALLING = "installing"
    CHECKING = "checking"
    ROLLING_BACK = "rolling_back"


DROPPABLE = {Stage.ACCEPTED, Stage.FETCHING, Stage.STAGING}


class Outcome(StrEnum):
    """The outcome of a command."""

    DONE = "done"
    FAILED = "failed"
    UNKNOWN_COMMAND = "unknown_command"


@dataclass(slots=True)
class JobResult:
    """The result of a job: a final state of the device API, a reason code and a message."""

    state: str
    reason_code: str = ""
    message: str = ""


@dataclass(slots=True)
class Job:
    """An installation, a rollback or a restart.

    A job from the server has a `deployment_id` and an `attempt`. A local job has a `request_id` instead. `starts`
    counts its starts, `downloaded` is the number of bytes in the blob store at the last start, and `report` is the
    number of its last report. `is_ended` means that the server accepts no more reports about it.
    """

    kind: JobKind
    product: str
    version: str = ""
    manifest_sha256: str = ""
    manifest_size: int = 0
    deployment_id: str = ""
    attempt: int = 0
    request_id: str = ""
    stage: Stage = Stage.ACCEPTED
    starts: int = 0
    downloaded: int = 0
    report: int = 0
    is_cancelled: bool = False
    is_ended: bool = False
    result: JobResult | None = None
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The identifier of the job. Only one job with a given key is ever started."""
        return f"{self.deployment_id}/{self.attempt}" if self.deployment_id else f"{self.kind}/{self.request_id}"


@dataclass(slots=True)
class Release:
    """An installed release and the deployment that installed it.

    While `is_observed` is true, `crashes` are counted. `observed_seconds` is how long an agent has watched the release.
    If its program crash-looped without a previous release, `stopped` says why the program is not started any more.
    """

    version: str
    manifest_sha256: str
    deployment_id: str = ""
    attempt: int = 0
    report: int = 0
    is_observed: bool = False
    observed_seconds: float = 0.0
    crashes: int = 0
    has_program: bool = False
    stopped: str = ""


@dataclass(slots=True)
class Product:
    """The committed releases of a product. The symlink `current` is switched to match `current`."""

    current: Release | None = None
    previous: Release | None = None

    def is_at(self, manifest_sha256: str) -> bool:
        """Return whether the current release is the one with this manifest."""
        return self.current is not None and self.current.manifest_sha256 == manifest_sha256


@dataclass(frozen=True, slots=True)
class Report:
    """A queued report. `number` increases with each report of an attempt."""

    deployment_id: str
    attempt: int
    number: int
    state: str
    reason_code: str = ""
    message: str = ""
    bytes_done: int | None = None
    bytes_total: int | None = None
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key of the job that the report is about."""
        return f"{self.deployment_id}/{self.attempt}"

    def body(self) -> dict[str, Any]:
        """Return the JSON object that the device API expects."""
        body: dict[str, Any] = {
            "attempt": self.attempt, "report": self.number, "state": self.state, "reason_code": self.reason_code,
            "message": self.message, "timings": self.timings,
        }  # fmt: skip
        if self.bytes_done is not None and self.bytes_total is not None:
            body["progress"] = {"bytes_done": self.bytes_done, "bytes_total": self.bytes_total}
        return body

    def without_details(self) -> "Report":
        """Return the same report without the texts and numbers that a server may fail to read."""
        return replace(self, message="", bytes_done=None, bytes_total=None, timings={})


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """The outcome of a command from the server. It is kept until a heartbeat has delivered it."""

    id: int
    outcome: Outcome
    message: str = ""


@dataclass(slots=True)
class LogRequest:
    """A `send_logs` command in progress. `next_batch` is the first batch that the server does not have."""

    command_id: int
    request_id: str
    max_size: int
    next_batch: int = 1


@dataclass(slots=True)
class State:
    """The complete state of the journal.

    `commands` lists the ids of accepted commands, and `acknowledge` those that no heartbeat has acknowledged yet.
    `ended` lists the keys of jobs that have ended. Report numbers start above `report_floor`.
    """

    commands: list[int] = field(default_factory=list)
    acknowledge: list[int] = field(default_factory=list)
    command_outcomes: list[CommandOutcome] = field(default_factory=list)
    log_requests: list[LogRequest] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    products: dict[str, Product] = field(default_factory=dict)
    outbox: list[Report] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    report_floor: int = 0

    def job(self, key: str) -> Job | None:
        """Return the job with this key, or None."""
        return next((job for job in self.jobs if job.key == key), None)

    def product(self, name: str) -> Product:
        """Return the entry of a product for changes. A missing entry is added."""
        return self.products.setdefault(name, Product())

    def installed(self, name: str) -> Product:
        """Return the committed releases of a product for reading. Nothing is added."""
        return self.products.get(name) or Product()

    def add_urgent(self, job: Job) -> None:
        """Add a job before all others except one past the point of no return. Idempotent."""
        if self.job(job.key) is None:
            is_first_irreversible = bool(self.jobs) and self.jobs[0].stage not in DROPPABLE
            self.jobs.insert(1 if is_first_irreversible else 0, job)

    def end(self, key: str) -> None:
        """Remove a job and record its key, so that the job never starts again."""
        self.jobs = [job for job in self.jobs if job.key != key]
        self.ended = [*(ended for ended in self.ended if ended != key), key][-KEPT_ENDED:]

    def is_idle(self) -> bool:
        """Return whether no job runs and nothing waits to be sent."""
        return not (self.jobs or self.outbox or self.acknowledge or self.command_outcomes or self.log_requests)
