"""The line to the control plane: heartbeats when they are due, reports as soon as they are there.

A heartbeat that got no answer is sent again exactly as it was, for the server may have taken it: that is a retry. When
it has become too old for that, the next one gets a new number.
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
from agent.jobs.journal import Journal, Report
from agent.server import enrolment
from agent.server.api import ControlPlane
from agent.server.enrolment import Enrolment
from agent.server.sequence import Sequence
from agent.server.signing import SignedRequest

RETRY_SECONDS = 120.0
IS_OVER = {"ended", "old_attempt", "not_found"}

log = logging.getLogger(__name__)

Describe = Callable[[bool], dict[str, Any]]


@dataclass(slots=True)
class Pending:
    """A heartbeat that has no answer yet: what it acknowledges, and the last of the jobs whose end it tells."""

    request: SignedRequest
    acknowledged: list[int]
    ended: list[str]
    signed_at: float = field(default_factory=time.monotonic)

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self.signed_at < RETRY_SECONDS


class Line:
    """What one thread says to the server. `describe` gives status and running bundles; True asks for the bare ones."""

    def __init__(self, control: ControlPlane, journal: Journal, sequence: Sequence, describe: Describe) -> None:
        self.control = control
        self.config = control.config
        self.journal = journal
        self.sequence = sequence
        self.describe = describe
        self.known = enrolment.load(self.config.state_dir, self.config.server)
        self.interval_seconds = float(self.known.interval_seconds if self.known else 0)
        self.pending: Pending | None = None
        self.told: Pending | None = None
        self.is_bare = False

    @property
    def has_news(self) -> bool:
        """Whether a job has ended since what the last answered heartbeat told."""
        return self.told is None or self.told.ended != self.journal.state.ended[-1:]

    def enrol(self) -> Enrolment:
        """Register, if that was not done yet. Raises `NotEnrolled`, `Refused`, `TryLater`."""
        if self.known is None:
            self.known = enrolment.enrol(self.config, self.control)
            self.interval_seconds = float(self.known.interval_seconds)
            log.info("Enrolled at %s as %s (%s).", self.config.server, self.known.device_id, self.known.state)
        return self.known

    def heartbeat(self) -> None:
        """Send one heartbeat and take the commands of its answer. Raises `Refused` or `TryLater`."""
        known = self.enrol()
        pending = self._pending(known)
        try:
            answer = self.control.send(pending.request)
        except Refused as refusal:
            self.pending = None
            if not self._mend(known, refusal):
                raise
            pending = self._pending(known)
            answer = self.control.send(pending.request)
        self.pending = None
        self.is_bare = False
        self._take(known, answer, pending.acknowledged)
        self.told = pending

    def _pending(self, known: Enrolment) -> Pending:
        if self.pending is not None and self.pending.is_fresh:
            return self.pending
        # Read before the device is described: what ends in between is told again.
        state = self.journal.state
        acknowledged = state.acknowledge[: commands.MAX_ACKNOWLEDGED]
        body = {
            "agent_version": __version__,
            "boot_id": machine.boot_id(),
            "metrics": {} if self.is_bare else machine.metrics(self.config.state_dir),
            "acknowledged_commands": acknowledged,
            **self.describe(self.is_bare),
        }
        request = self.control.sign_heartbeat(known.device_id, body, self.sequence.next())
        self.pending = Pending(request, acknowledged, state.ended[-1:])
        return self.pending

    def _mend(self, known: Enrolment, refusal: Refused) -> bool:
        """Whether something could be learnt from a refusal, so that asking again makes sense."""
        if refusal.code == "sequence_used":
            return self.sequence.jump(refusal.error.get("next_sequence"))
        if refusal.code == "clock_skew":
            return self.control.clock.learn(refusal.error.get("server_time"))
        if refusal.status == 400 and not self.is_bare:
            # What a program says of itself must not cost the device its line.
            self.is_bare = True
            return True
        if refusal.code == "decommissioned":
            self._remember(replace(known, state="decommissioned"))
        if refusal.code == "unknown_device":
            # Perhaps the server was set back; it gives the same key its place again.
            self.known = enrolment.enrol(self.config, self.control)
        return False

    def _take(self, known: Enrolment, answer: dict[str, Any], acknowledged: list[int]) -> None:
        self.interval_seconds = float(enrolment.interval_seconds(answer.get("interval_seconds")))
        state = str(answer.get("state", ""))[:32]
        if state != known.state or self.interval_seconds != known.interval_seconds:
            log.info("This device is %s; heartbeats every %.0f s.", state, self.interval_seconds)
            self._remember(replace(known, state=state, interval_seconds=int(self.interval_seconds)))
        offered = answer.get("commands")
        if offered or acknowledged:
            with self.journal.change() as changed:
                commands.acknowledged(changed, acknowledged)
                commands.take(changed, offered)

    def report_attributes(self) -> None:
        """Say what this machine is, when that changed since it was last taken. Raises `Refused` or `TryLater`."""
        known = self.known
        attributes = {**machine.hardware(), "agent_version": __version__, "device_type": self.config.device_type}
        sha256 = hashlib.sha256(json.dumps(attributes, sort_keys=True).encode("ascii")).hexdigest()
        if known is None or known.state != "accepted" or known.attributes_sha256 == sha256:
            return
        version = known.attributes_version + 1
        answer = self.control.attributes(known.device_id, {"version": version, "attributes": attributes})
        kept = answer.get("version")
        if type(kept) is int and kept > version:
            # The server has seen later ones than this state remembers: say it again with a higher number.
            self.known = replace(known, attributes_version=kept)
            return
        self._remember(replace(known, attributes_version=version, attributes_sha256=sha256))

    def _remember(self, known: Enrolment) -> None:
        """Until the next start at least: the server tells all of it again."""
        if known != self.known:
            self.known = known
            try:
                enrolment.save(self.config.state_dir, known)
            except OSError as error:
                log.warning("What the server said of this device cannot be kept: %s.", error)

    def deliver(self) -> bool:
        """Send the oldest report. False if there is none. Raises `TryLater`, or `Refused` for what may pass."""
        outbox = self.journal.state.outbox
        if not outbox:
            return False
        report = outbox[0]
        try:
            self.control.report(report.deployment_id, report.body)
        except Refused as refusal:
            if refusal.status in {401, 403}:
                raise
            log.info("The server does not take the report %s: %s", report.body["state"], refusal)
            self._drop(report, is_over=refusal.code in IS_OVER)
        else:
            self._drop(report, is_taken=True)
        return True

    def _drop(self, report: Report, *, is_taken: bool = False, is_over: bool = False) -> None:
        """Take a report out of the outbox. One that the server cannot read is said once more in fewer words."""
        body = report.body
        bare = {**body, "message": "", "timings": {}}
        with self.journal.change() as state:
            place = next((place for place, one in enumerate(state.outbox) if one == report), None)
            if place is not None:
                say_again = not is_taken and not is_over and body != bare
                state.outbox[place : place + 1] = [Report(report.deployment_id, bare)] if say_again else []
            if is_over:
                state.outbox = [one for one in state.outbox if one.key != report.key]
                job = state.job(report.key)
                if job is not None:
                    job.is_ended = True
