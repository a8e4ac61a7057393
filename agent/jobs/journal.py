"""What the device remembers: one small file, replaced as a whole before the work that it names begins.

One write is one decision, so a power cut falls before or after it, never into it. In particular a commit (the new
release is current, the job is gone, its last report waits to be sent) is a single write.

    accepted ─► fetching ─► staging ─┊─► installing ─► checking ─► (gone: committed)
        └───────────┴──────────┴──► (gone)      └──────────┴──► rolling_back ─► (gone)

┊ is the point of no return: before it a job can be dropped and nothing has happened; behind it whoever finds the job
after a crash rolls it back.
"""

import copy
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from agent.atomic_files import is_disk_full, read_limited, write_atomically

FILE = "journal.json"
BALLAST = "ballast"
BALLAST_SIZE = 1024 * 1024
MAX_SIZE = 16 * 1024 * 1024
SCHEMA = 2
KEPT_COMMANDS = 2000
KEPT_ENDED = 500
# How the request begins that a command of the server makes; all others come from this device.
BY_COMMAND = "command-"

log = logging.getLogger(__name__)


class Kind(StrEnum):
    DEPLOY = "deploy"
    ROLL_BACK = "roll_back"
    CRASH_LOOP = "crash_loop"


class Stage(StrEnum):
    ACCEPTED = "accepted"
    FETCHING = "fetching"
    STAGING = "staging"
    INSTALLING = "installing"
    CHECKING = "checking"
    ROLLING_BACK = "rolling_back"


DROPPABLE = {Stage.ACCEPTED, Stage.FETCHING, Stage.STAGING}


@dataclass(slots=True)
class JobResult:
    """How a job ended: a terminal state of the device API, a reason code, and a sentence."""

    state: str
    reason_code: str = ""
    message: str = ""


@dataclass(slots=True)
class Job:
    """One piece of work. `key` is the deployment and the attempt; local jobs have a `request_id` instead.

    `starts` counts how often work on it began; `downloaded` the bytes that had been fetched then; `report` is the last
    number used. `is_ended`: the server wants to hear nothing more of it.
    """

    kind: Kind
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
        return f"{self.deployment_id}/{self.attempt}" if self.deployment_id else f"{self.kind}/{self.request_id}"


@dataclass(slots=True)
class Release:
    """An installed release and the deployment it came with. `starts` are counted while it `is_baking`."""

    version: str
    manifest_sha256: str
    deployment_id: str = ""
    attempt: int = 0
    report: int = 0
    is_baking: bool = False
    starts: int = 0
    has_program: bool = False


@dataclass(slots=True)
class Product:
    """What is committed: the symlink `current` follows this."""

    current: Release | None = None
    previous: Release | None = None

    def is_at(self, manifest_sha256: str) -> bool:
        """Whether the current release is the one of this manifest."""
        return self.current is not None and self.current.manifest_sha256 == manifest_sha256


@dataclass(slots=True)
class Report:
    """A report that waits to be delivered; `body` is what is sent."""

    deployment_id: str
    body: dict[str, Any]

    @property
    def key(self) -> str:
        return f"{self.deployment_id}/{self.body['attempt']}"


@dataclass(slots=True)
class State:
    """Everything. `commands` are ids that were applied, `acknowledge` those the server has to hear of."""

    commands: list[int] = field(default_factory=list)
    acknowledge: list[int] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    products: dict[str, Product] = field(default_factory=dict)
    outbox: list[Report] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    report_floor: int = 0

    def job(self, key: str) -> Job | None:
        return next((job for job in self.jobs if job.key == key), None)

    def product(self, name: str) -> Product:
        """What is committed of a product, to be changed."""
        return self.products.setdefault(name, Product())

    def installed(self, name: str) -> Product:
        """What is committed of a product, to be read."""
        return self.products.get(name) or Product()

    def add_urgent(self, job: Job) -> None:
        """Put a job before all others but one that is behind the point of no return. The same key is added once."""
        if self.job(job.key) is None:
            is_bound = bool(self.jobs) and self.jobs[0].stage not in DROPPABLE
            self.jobs.insert(1 if is_bound else 0, job)

    def end(self, key: str) -> None:
        """Drop a job for good: nothing of that key is ever begun again."""
        self.jobs = [job for job in self.jobs if job.key != key]
        self.ended = [*(one for one in self.ended if one != key), key][-KEPT_ENDED:]


class Journal:
    """The state on disk and in memory. Safe to use from several threads."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE
        self.ballast = state_dir / BALLAST
        self.changed = threading.Condition(threading.RLock())
        self.needs_rebuild = False
        self._state = self._load()
        self.refill_ballast()

    @property
    def state(self) -> State:
        """A snapshot to read; change nothing in it."""
        with self.changed:
            return self._state

    @contextmanager
    def change(self) -> Iterator[State]:
        """A copy to change. It counts, here and on disk, when the block ends well; else nothing has happened."""
        with self.changed:
            state = copy.deepcopy(self._state)
            yield state
            self._write(state)
            self._state = state
            self.changed.notify_all()

    def refill_ballast(self) -> None:
        """Keep a little space in reserve, so that an end can be noted on a full disk."""
        if not self.ballast.exists():
            try:
                write_atomically(self.ballast, bytes(BALLAST_SIZE))
            except OSError:
                log.warning("There is no space for the reserve file %s.", self.ballast)

    def _write(self, state: State) -> None:
        data = json.dumps({"schema": SCHEMA, **asdict(state)}, separators=(",", ":")).encode("ascii")
        self.write_with_ballast(lambda: write_atomically(self.path, data))

    def write_with_ballast(self, write: Callable[[], None]) -> None:
        """Write something small that has to succeed, also on a full disk: then with the space of the reserve."""
        try:
            write()
        except OSError as error:
            if not is_disk_full(error) or not self.ballast.exists():
                raise
            self.ballast.unlink(missing_ok=True)
            write()

    def _load(self) -> State:
        try:
            return decode(read_limited(self.path, MAX_SIZE))
        except FileNotFoundError:
            self.needs_rebuild = True
            return State()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            return self._start_over(error)

    def _start_over(self, error: Exception) -> State:
        """Without a journal the releases on disk still say what runs; unfinished work is lost, and the server ends it.

        Reports go on with numbers that are higher than any that was used.
        """
        aside = self.path.with_name(f"{FILE}.damaged-{int(time.time())}")
        self.path.replace(aside)
        self.needs_rebuild = True
        log.error("The journal is damaged (%s). It was moved to %s; what is installed stays.", error, aside)
        return State(report_floor=int(time.time()) % 2**30)


def decode(data: bytes) -> State:
    """The state in a journal's bytes. Raises `ValueError`, `TypeError`, `KeyError` or `AttributeError`."""
    try:
        return _state(json.loads(data))
    except (RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None


def _state(value: Any) -> State:
    if value.pop("schema") != SCHEMA:
        raise ValueError("another schema")
    return State(
        commands=[int(one) for one in value["commands"]],
        acknowledge=[int(one) for one in value["acknowledge"]],
        jobs=[_job(one) for one in value["jobs"]],
        products={
            name: Product(_release(one["current"]), _release(one["previous"]))
            for name, one in value["products"].items()
        },
        outbox=[Report(one["deployment_id"], dict(one["body"])) for one in value["outbox"]],
        ended=[str(one) for one in value["ended"]],
        report_floor=int(value["report_floor"]),
    )


def _job(value: dict[str, Any]) -> Job:
    result = value.pop("result")
    return Job(
        **{**value, "kind": Kind(value["kind"]), "stage": Stage(value["stage"])},
        result=JobResult(**result) if result else None,
    )


def _release(value: dict[str, Any] | None) -> Release | None:
    return Release(**value) if value else None
