"""The delivery of requested logs, one batch at a time.

1. The logs are collected once and saved to a file, so that a repeated batch has the same bytes.
2. After each accepted batch, `next_batch` in the journal is increased.
3. One write to the journal removes the request and records the outcome of its command. Then the file is deleted.

If the agent is killed, it repeats the last step. The server ignores batches that it already has.
"""

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from agent.atomic_files import create_directory, read_json, remove, write_atomically
from agent.errors import Refused
from agent.jobs import commands
from agent.jobs.journal import Journal
from agent.jobs.state import LogRequest, Outcome
from agent.server.api import ControlPlane
from agent.server.log_batches import LogBatch

DIRECTORY = "log-requests"
MAX_FILE_SIZE = 32 * 1024 * 1024
MAX_GAPS = 3

log = logging.getLogger(__name__)

# Collects logs of at most the given number of bytes.
Collect = Callable[[int], list[LogBatch]]


class LogDelivery:
    """Sends the logs for the first log request in the journal."""

    def __init__(self, control: ControlPlane, journal: Journal, state_dir: Path, collect: Collect) -> None:
        self.control = control
        self.journal = journal
        self.directory = state_dir / DIRECTORY
        self.collect = collect
        self._batches: dict[str, list[LogBatch]] = {}
        self._gaps = 0

    @property
    def is_wanted(self) -> bool:
        """Whether a log request is waiting."""
        return bool(self.journal.state.log_requests)

    def remove_finished(self) -> None:
        """Delete collected logs that no log request refers to any more."""
        wanted = {f"{request.request_id}.json" for request in self.journal.state.log_requests}
        with suppress(OSError):
            for path in list(self.directory.iterdir()) if self.directory.is_dir() else []:
                if path.name not in wanted:
                    remove(path)

    def send_batch(self, device_id: str) -> None:
        """Send the next batch of the first log request.

        Raises:
            Refused: The server currently refuses all requests of this device.
            TryLater: The server cannot be reached or is busy.
            OSError: The journal cannot be written; the batch will be sent again.
        """
        request = self.journal.state.log_requests[0]
        batches = self._collected(request)
        number = min(request.next_batch, len(batches))
        is_last = number == len(batches)
        body = {"batch": number, **asdict(batches[number - 1]), "is_last": is_last}
        try:
            self.control.post_log_batch(device_id, request.request_id, body)
        except Refused as refusal:
            self._handle(refusal, request)
        else:
            self._gaps = 0
            if is_last:
                self._finish(request, Outcome.DONE)
            else:
                self._continue_at(request, number + 1)

    def _handle(self, refusal: Refused, request: LogRequest) -> None:
        """Continue with the batch that the server requests, or end the log request. Raise a temporary refusal."""
        if refusal.status in {401, 403}:
            raise refusal
        wanted = refusal.details.get("next_batch")
        if refusal.code == "batch_gap" and self._gaps < MAX_GAPS and type(wanted) is int and wanted >= 1:
            self._gaps += 1
            self._continue_at(request, wanted)
        else:
            self._finish(request, Outcome.FAILED, str(refusal))

    def _collected(self, request: LogRequest) -> list[LogBatch]:
        """Return the batches of a request. Collect them, or load those that were collected before a restart."""
        if request.request_id not in self._batches:
            batches = self._load(request) or self.collect(request.max_size)
            self._batches = {request.request_id: batches}
            self._save(request, batches)
        return self._batches[request.request_id]

    def _load(self, request: LogRequest) -> list[LogBatch]:
        with suppress(OSError, ValueError, TypeError):
            values = read_json(self._path(request), MAX_FILE_SIZE)
            return [LogBatch(str(value["source"]), str(value["text"])) for value in values]
        return []

    def _save(self, request: LogRequest, batches: list[LogBatch]) -> None:
        """Save the batches. If the disk is full, keep them in memory; they are collected again after a restart."""
        path = self._path(request)
        if path.exists():
            return
        try:
            create_directory(self.directory, 0o700)
            write_atomically(path, json.dumps([asdict(batch) for batch in batches]).encode("ascii"))
        except OSError as error:
            log.warning("The collected logs cannot be saved: %s.", error.strerror)

    def _path(self, request: LogRequest) -> Path:
        return self.directory / f"{request.request_id}.json"

    def _continue_at(self, request: LogRequest, number: int) -> None:
        with self.journal.change() as state:
            for recorded in state.log_requests:
                if recorded.command_id == request.command_id:
                    recorded.next_batch = number

    def _finish(self, request: LogRequest, result: Outcome, message: str = "") -> None:
        with self.journal.change() as state:
            state.log_requests = [waiting for waiting in state.log_requests if waiting.command_id != request.command_id]
            commands.finish(state, request.command_id, result, message)
        log.info("Log request %s: %s. %s", request.request_id, result, message)
        self._batches.clear()
        self._gaps = 0
        self.remove_finished()
