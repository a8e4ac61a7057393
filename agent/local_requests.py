"""Requests from another process on the same device to the running agent, as files in a directory.

asked/<id>.json          {"product": …, "kind": …}, written by `kernex-agent rollback` and `kernex-agent restart`
asked/<id>.answer.json   {"state": …, "reason_code": …, "message": …}, written by the agent
"""

import json
import logging
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

from agent.atomic_files import create_directory, read_json, remove, write_atomically
from agent.errors import TryLater
from agent.jobs.journal import Journal
from agent.jobs.state import Job, JobKind, JobResult
from agent.manifest import NAME

DIRECTORY = "asked"
MAX_SIZE = 16 * 1024
POLL_SECONDS = 0.1
ACCEPT_TIMEOUT_SECONDS = 30.0
KEPT_SECONDS = 3600.0
RESPONSE_SUFFIX = ".answer.json"
# The types of jobs that another process may request.
KINDS = {JobKind.ROLL_BACK, JobKind.RESTART}
# The prefix of the ids of jobs that the requesting process carries out itself because no agent is running.
DIRECT_PREFIX = "here-"

log = logging.getLogger(__name__)


class LocalRequests:
    """The running agent's side of the exchange."""

    def __init__(self, state_dir: Path) -> None:
        self.directory = state_dir / DIRECTORY

    def accept(self, journal: Journal) -> None:
        """Turn each request into a job. Write the job to the journal before deleting the request. Raises `OSError`."""
        if not self.directory.is_dir():
            return
        for path in list(self.directory.iterdir()):
            if path.name.endswith((RESPONSE_SUFFIX, ".new")):
                self._expire(path)
            elif path.suffix == ".json":
                request = _read(path)
                if request is not None:
                    self.queue(journal, *request, path.name.removesuffix(".json"))
                remove(path)

    def queue(self, journal: Journal, kind: JobKind, product: str, request_id: str) -> Job:
        """Queue a job that rolls a product back or restarts it, and return it. Idempotent."""
        job = Job(kind, product, request_id=request_id)
        if journal.state.job(job.key) is None:
            with journal.change() as state:
                state.add_urgent(job)
            log.info("A process on this device requested %s of %s.", kind, product)
        return job

    def respond(self, job: Job, result: JobResult) -> None:
        """Write the result of a requested job for the process that waits for it."""
        if job.kind in KINDS and not job.request_id.startswith(DIRECT_PREFIX):
            with suppress(OSError):
                path = self.directory / f"{job.request_id}{RESPONSE_SUFFIX}"
                write_atomically(path, json.dumps(asdict(result)).encode("ascii"))

    def _expire(self, path: Path) -> None:
        """Delete a response or an unfinished request if the process that waited for it was killed."""
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > KEPT_SECONDS:
                remove(path)


def request(state_dir: Path, kind: JobKind, product: str, timeout_seconds: float) -> JobResult:
    """Ask the running agent to roll a product back or to restart it, and wait for the result.

    Raises:
        TryLater: The agent did not accept the request, or did not finish in time.
        OSError: The request cannot be written.
    """
    directory = state_dir / DIRECTORY
    create_directory(directory, 0o700)
    path = directory / f"{uuid4()}.json"
    response = directory / f"{path.stem}{RESPONSE_SUFFIX}"
    write_atomically(path, json.dumps({"product": product, "kind": kind}).encode("ascii"))
    started_at = time.monotonic()
    while time.monotonic() - started_at < timeout_seconds:
        with suppress(OSError, ValueError, TypeError):
            result = JobResult(**read_json(response, MAX_SIZE))
            response.unlink(missing_ok=True)
            return result
        if time.monotonic() - started_at > ACCEPT_TIMEOUT_SECONDS and path.exists():
            path.unlink(missing_ok=True)
            raise TryLater("The running agent did not accept the request; its log says why.")
        time.sleep(POLL_SECONDS)
    raise TryLater("The running agent has not finished yet; `kernex-agent status` shows its progress.")


def _read(path: Path) -> tuple[JobKind, str] | None:
    """Return the job kind and the product of a request, or None if the request is not valid."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        value = read_json(path, MAX_SIZE)
        kind, product = JobKind(value.get("kind", JobKind.ROLL_BACK)), value["product"]
        if kind in KINDS and isinstance(product, str) and NAME.fullmatch(product):
            return kind, product
    return None
