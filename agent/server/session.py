"""The session with the control plane: enrolment, heartbeats, attributes and reports of this device.

A heartbeat without a response may have reached the server, so it is sent again unchanged, and the server recognises the
retry. When it is too old for a retry, a new heartbeat with a new sequence number replaces it.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from agent import __version__, machine
from agent.errors import Refused
from agent.jobs import commands
from agent.jobs.journal import Journal
from agent.jobs.state import DROPPABLE, CommandOutcome, Report, State
from agent.server.api import ControlPlane
from agent.server.enrolment import Enrolment, enrol, load_enrolment, save_enrolment, valid_interval_seconds
from agent.server.sequence import Sequence
from agent.server.signing import SignedRequest

RETRY_SECONDS = 120.0
MAX_ATTEMPTS = 3
MAX_VERSION = 2**31
# Codes that mean that the server accepts no further reports about an attempt.
ENDED_CODES = {"ended", "old_attempt", "not_found"}
# The states that end a deployment on a device.
FINAL_STATES = frozenset({"succeeded", "failed", "rolled_back", "rejected", "timed_out", "cancelled"})

log = logging.getLogger(__name__)

# Returns `status` and `running_bundles` for a heartbeat. With the argument True, without the data of programs.
Describe = Callable[[bool], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A signed heartbeat: the commands that it acknowledges, its outcomes, and the last ended job that it describes."""

    request: SignedRequest
    acknowledged: list[int]
    outcome_ids: list[int]
    last_ended: list[str]
    signed_at: float = field(default_factory=time.monotonic)

    @property
    def can_be_retried(self) -> bool:
        """Whether the server still accepts this heartbeat as a retry."""
        return time.monotonic() - self.signed_at < RETRY_SECONDS


class Session:
    """The session of one thread with the server. `enrolment` is None until this device is enrolled.

    `acceptance_error` says why the commands of the last response could not be accepted, or is empty.
    """

    def __init__(self, control: ControlPlane, journal: Journal, sequence: Sequence, describe: Describe) -> None:
        self.control = control
        self.config = control.config
        self.journal = journal
        self.sequence = sequence
        self.describe = describe
        self.attributes = {**machine.hardware(), "agent_version": __version__, "device_type": self.config.device_type}
        self.attributes_sha256 = hashlib.sha256(json.dumps(self.attributes, sort_keys=True).encode("ascii")).hexdigest()
        self.enrolment = load_enrolment(self.config.state_dir, self.config.server)
        self.interval_seconds = float(self.enrolment.interval_seconds if self.enrolment else 0)
        self.unconfirmed: Heartbeat | None = None
        self.last_accepted: Heartbeat | None = None
        self.omit_details = False
        self.acceptance_error = ""

    @property
    def has_unreported_end(self) -> bool:
        """Whether a job has ended since the last accepted heartbeat described this device."""
        return self.last_accepted is None or self.last_accepted.last_ended != self.journal.state.ended[-1:]

    @property
    def has_new_attributes(self) -> bool:
        """Whether the attributes have changed since they were sent, and the server accepts them from this device."""
        enrolment = self.enrolment
        is_accepted = enrolment is not None and enrolment.state == "accepted"
        return is_accepted and enrolment is not None and enrolment.attributes_sha256 != self.attributes_sha256

    def enrol(self) -> Enrolment:
        """Enrol this device unless it is enrolled. Raises the errors of `agent.server.enrolment.enrol`."""
        if self.enrolment is None:
            self.enrolment = enrol(self.config, self.control)
            self.interval_seconds = float(self.enrolment.interval_seconds)
            log.info("Enrolled at %s as %s (%s).", self.config.server, self.enrolment.device_id, self.enrolment.state)
        return self.enrolment

    def send_heartbeat(self) -> None:
        """Send one heartbeat and accept the commands of the response.

        Raises:
            NotEnrolled, BadConfiguration: This device cannot enrol.
            SequenceExhausted: No sequence number is left.
            Refused: The server refused the heartbeat, and a retry would not help.
            TryLater: The server cannot be reached or is busy.
        """
        enrolment = self.enrol()
        heartbeat, response = self._exchange_heartbeat(enrolment)
        self.unconfirmed = None
        self.omit_details = False
        self.last_accepted = heartbeat
        self._apply_response(response, enrolment)
        self._apply_commands(response.get("commands"), heartbeat)

    def send_attributes(self) -> None:
        """Send the attributes of this device. Raises `Refused` or `TryLater`."""
        enrolment = self.enrol()
        version = enrolment.attributes_version + 1
        body = {"version": version, "attributes": self.attributes}
        response = self.control.put_attributes(enrolment.device_id, body)
        stored_version = response.get("version")
        if type(stored_version) is int and version < stored_version < MAX_VERSION:
            # The server has a newer version than this state directory. The next attempt uses a higher version.
            self.enrolment = replace(enrolment, attributes_version=stored_version)
            return
        self._update_enrolment(replace(enrolment, attributes_version=version, attributes_sha256=self.attributes_sha256))

    def send_report(self) -> None:
        """Send the oldest report in the outbox, if any. Raises `TryLater`, or `Refused` if it may be temporary."""
        outbox = self.journal.state.outbox
        if not outbox:
            return
        report = outbox[0]
        try:
            response = self.control.post_report(report.deployment_id, report.body())
        except Refused as refusal:
            if refusal.status in {401, 403}:
                raise
            log.info("The server refused the report %s: %s", report.state, refusal)
            with self.journal.change() as state:
                if refusal.code in ENDED_CODES:
                    _end_reports(state, report.key)
                else:
                    _send_without_details(state, report)
        else:
            with self.journal.change() as state:
                state.outbox = [waiting for waiting in state.outbox if waiting != report]
                if response.get("state") in FINAL_STATES and report.state not in FINAL_STATES:
                    _end_progress(state, report.key)  # the deployment ended on the server, for example at its deadline

    def _exchange_heartbeat(self, enrolment: Enrolment) -> tuple[Heartbeat, dict[str, Any]]:
        """Return an accepted heartbeat and its response. After a refusal that can be fixed, try again."""
        attempts = 0
        while True:
            attempts += 1
            heartbeat = self._next_heartbeat(enrolment)
            try:
                return heartbeat, self.control.send(heartbeat.request)
            except Refused as refusal:
                self.unconfirmed = None
                if not self._apply_refusal(refusal, enrolment) or attempts == MAX_ATTEMPTS:
                    raise

    def _next_heartbeat(self, enrolment: Enrolment) -> Heartbeat:
        """Return the heartbeat that has no response yet, or sign a new one."""
        if self.unconfirmed is not None and self.unconfirmed.can_be_retried:
            return self.unconfirmed
        # Read the state before describing the device: the next heartbeat covers a job that ends in between.
        state = self.journal.state
        acknowledged = state.acknowledge[: commands.MAX_ACKNOWLEDGED]
        outcomes = state.command_outcomes[: commands.MAX_OUTCOMES]
        body = {
            "agent_version": __version__,
            "boot_id": machine.boot_id(),
            "metrics": {} if self.omit_details else machine.metrics(self.config.state_dir),
            "acknowledged_commands": acknowledged,
            "command_outcomes": [self._outcome_body(outcome) for outcome in outcomes],
            **self.describe(self.omit_details),
        }
        request = self.control.sign_heartbeat(enrolment.device_id, body, self.sequence.next())
        outcome_ids = [outcome.id for outcome in outcomes]
        self.unconfirmed = Heartbeat(request, acknowledged, outcome_ids, state.ended[-1:])
        return self.unconfirmed

    def _outcome_body(self, outcome: CommandOutcome) -> dict[str, Any]:
        message = "" if self.omit_details else outcome.message
        return {"id": outcome.id, "outcome": outcome.outcome, "message": message}

    def _apply_refusal(self, refusal: Refused, enrolment: Enrolment) -> bool:
        """Apply the information in a refusal. Return whether another heartbeat can succeed now."""
        if refusal.code == "sequence_used":
            return self.sequence.continue_at(refusal.details.get("next_sequence"))
        if refusal.code == "sequence_jump":
            # Another server made the numbers jump too far. This server corrects a low number with `next_sequence`.
            self.sequence.start_over()
            return True
        if refusal.code == "clock_skew":
            return self.control.clock.synchronize(refusal.details.get("server_time"))
        if refusal.status == 400 and not self.omit_details:
            # The data that a program reports must not make the device unreachable.
            self.omit_details = True
            return True
        if refusal.code == "decommissioned":
            self._update_enrolment(replace(enrolment, state="decommissioned"))
        if refusal.code == "unknown_device":
            # The server may have been restored from a backup, so this device registers its key again.
            self.enrolment = enrol(self.config, self.control)
        return False

    def _apply_response(self, response: dict[str, Any], enrolment: Enrolment) -> None:
        self.interval_seconds = float(valid_interval_seconds(response.get("interval_seconds")))
        state = str(response.get("state", ""))[:32]
        if state != enrolment.state or self.interval_seconds != enrolment.interval_seconds:
            log.info("This device is %s and sends a heartbeat every %.0f s.", state, self.interval_seconds)
            self._update_enrolment(replace(enrolment, state=state, interval_seconds=int(self.interval_seconds)))

    def _apply_commands(self, offered: object, heartbeat: Heartbeat) -> None:
        """Write the commands to the journal, and remove the delivered acknowledgements and outcomes.

        If the journal cannot be written, nothing changes and the server sends the commands again.
        """
        if not (offered or heartbeat.acknowledged or heartbeat.outcome_ids):
            return
        try:
            with self.journal.change() as state:
                commands.confirm(state, heartbeat.acknowledged, heartbeat.outcome_ids)
                commands.accept(state, offered)
        except OSError as error:
            self.acceptance_error = f"Commands cannot be accepted, because the journal cannot be written: {error}."
            log.error("%s", self.acceptance_error)
        else:
            self.acceptance_error = ""

    def _update_enrolment(self, enrolment: Enrolment) -> None:
        """Save the enrolment. If it cannot be written, keep it in memory, because the server sends the data again."""
        if enrolment != self.enrolment:
            self.enrolment = enrolment
            try:
                save_enrolment(self.config.state_dir, enrolment)
            except OSError as error:
                log.warning("The enrolment of this device cannot be saved: %s.", error)


def _end_reports(state: State, key: str) -> None:
    """Drop all reports about an attempt. Its job ends without further reports."""
    state.outbox = [report for report in state.outbox if report.key != key]
    job = state.job(key)
    if job is not None:
        job.is_ended = True


def _end_progress(state: State, key: str) -> None:
    """Drop the progress reports of an attempt, and its job if nothing has changed on the device yet.

    The server still records the result of a job that has changed the device.
    """
    state.outbox = [report for report in state.outbox if report.key != key or report.state in FINAL_STATES]
    job = state.job(key)
    if job is not None and job.stage in DROPPABLE:
        job.is_ended = True


def _send_without_details(state: State, report: Report) -> None:
    """Replace a refused report with one without details. If the server refused that one too, drop it."""
    simple = report.without_details()
    state.outbox = [
        simple if waiting == report else waiting for waiting in state.outbox if waiting != report or report != simple
    ]
