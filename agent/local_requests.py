"""Asking the running agent for something, from another process on the same device: files in a directory.

asked/<id>.json          {"product": …}, written by who asks
asked/<id>.answer.json   {"state": …, "reason_code": …, "message": …}, written by the agent
"""

import json
import logging
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

from agent.atomic_files import make_directory, read_json, remove, write_atomically
from agent.errors import TryLater
from agent.jobs.journal import BY_COMMAND, Job, JobResult, Journal, Kind
from agent.manifest import NAME

DIRECTORY = "asked"
MAX_SIZE = 16 * 1024
POLL_SECONDS = 0.1
TAKEN_WITHIN_SECONDS = 30.0
KEPT_SECONDS = 3600.0

log = logging.getLogger(__name__)


class Asked:
    """The agent's side."""

    def __init__(self, state_dir: Path) -> None:
        self.directory = state_dir / DIRECTORY
        make_directory(self.directory, 0o700)

    def take(self, journal: Journal) -> None:
        """Turn what was asked into jobs: the job is in the journal before the question is deleted."""
        names = [path.name for path in self.directory.iterdir() if path.suffix == ".json"]
        for name in names:
            path = self.directory / name
            if name.endswith(".answer.json"):
                self._forget(path)
                continue
            product = _product(path)
            if product:
                self.queue(journal, product, name.removesuffix(".json"))
            remove(path)

    def queue(self, journal: Journal, product: str, request_id: str) -> Job:
        """A job that rolls a product back; the same request makes one job."""
        job = Job(Kind.ROLL_BACK, product, request_id=request_id)
        if journal.state.job(job.key) is None:
            with journal.change() as state:
                state.add_urgent(job)
            log.info("Asked on this device to roll back %s.", product)
        return job

    def answer(self, job: Job, result: JobResult) -> None:
        """Say how a job ended, if somebody asked for it here."""
        if job.kind is Kind.ROLL_BACK and not job.request_id.startswith(BY_COMMAND):
            with suppress(OSError):
                path = self.directory / f"{job.request_id}.answer.json"
                write_atomically(path, json.dumps(asdict(result)).encode("ascii"))

    def _forget(self, path: Path) -> None:
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > KEPT_SECONDS:
                path.unlink()


def ask(state_dir: Path, product: str, patience_seconds: float) -> JobResult:
    """Ask the running agent to roll a product back and wait for the end. Raises `TryLater` if no answer comes."""
    directory = state_dir / DIRECTORY
    make_directory(directory, 0o700)
    question = directory / f"{uuid4()}.json"
    answer = question.with_suffix(".answer.json")
    write_atomically(question, json.dumps({"product": product}).encode("ascii"))
    begun = time.monotonic()
    while time.monotonic() - begun < patience_seconds:
        with suppress(OSError, ValueError, TypeError):
            result = JobResult(**read_json(answer, MAX_SIZE))
            answer.unlink(missing_ok=True)
            return result
        if time.monotonic() - begun > TAKEN_WITHIN_SECONDS and question.exists():
            question.unlink(missing_ok=True)
            raise TryLater("The running agent did not take the request; look into its log.")
        time.sleep(POLL_SECONDS)
    raise TryLater("The running agent has not finished yet; `status` shows how far it is.")


def _product(path: Path) -> str:
    with suppress(OSError, ValueError, KeyError, TypeError):
        product = read_json(path, MAX_SIZE)["product"]
        if isinstance(product, str) and NAME.fullmatch(product):
            return product
    return ""
