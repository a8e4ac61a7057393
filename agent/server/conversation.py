"""What this device says to the server, and when: reports, heartbeats, attributes and logs, each on its own schedule."""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from agent.config import Config
from agent.errors import AgentError, BadConfiguration, NotEnrolled, Refused, TryLater
from agent.jobs.journal import Journal
from agent.server.log_delivery import LogDelivery
from agent.server.retry_schedule import Schedule
from agent.server.session import Session

FIRST_WAIT_SHARE, FIRST_WAIT_SECONDS = 0.25, 15.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Exchange:
    """One kind of request. `send` returns after how many seconds the next one is due; `is_wanted` if there is any."""

    schedule: Schedule
    is_wanted: Callable[[], bool]
    send: Callable[[], float]

    @property
    def left_seconds(self) -> float | None:
        """How long until it is due, or None if nothing is to be sent."""
        return self.schedule.left_seconds if self.is_wanted() else None


class Conversation:
    """The requests of one thread. Reports go first, so that the server learns of an end before the next heartbeat."""

    def __init__(self, config: Config, session: Session, journal: Journal, logs: LogDelivery) -> None:
        self.config = config
        self.session = session
        self.journal = journal
        self.logs = logs
        self.reports = Exchange(self._schedule(), lambda: bool(journal.state.outbox), self._send_report)
        self.heartbeat = Exchange(self._schedule(), lambda: True, self._send_heartbeat)
        self.attributes = Exchange(self._schedule(), lambda: session.has_new_attributes, self._send_attributes)
        self.log_batches = Exchange(self._schedule(), lambda: logs.is_wanted, self._send_log_batch)
        self.exchanges = (self.reports, self.heartbeat, self.attributes, self.log_batches)

    def delay_first_heartbeat(self) -> None:
        """Wait a random part of the interval first: after a power cut a whole fleet starts at once."""
        share = self.session.interval_seconds * FIRST_WAIT_SHARE
        self.heartbeat.schedule.succeeded(random.uniform(0, min(share, FIRST_WAIT_SECONDS)))  # noqa: S311

    def next_due(self) -> Exchange | None:
        """Return the first exchange that is due, or None."""
        return next((exchange for exchange in self.exchanges if exchange.left_seconds == 0), None)

    def attempt(self, exchange: Exchange) -> AgentError | None:
        """Send one request and set when the next is due. Return what went wrong, if anything did.

        After a failure the caller decides whether to go on, and then calls `exchange.schedule.failed`.
        """
        try:
            exchange.schedule.succeeded(exchange.send())
        except AgentError as error:
            return error
        except OSError as error:
            return TryLater(f"The state directory cannot be used: {error}.")
        except Exception as error:
            log.exception("The exchange with the server failed unexpectedly; continuing.")
            return TryLater(f"Unexpected: {type(error).__name__}.")
        return None

    def is_final(self, failure: AgentError) -> bool:
        """Return whether a failure makes it pointless to go on: this device is not enrolled, and cannot be."""
        return self.session.enrolment is None and isinstance(failure, Refused | NotEnrolled | BadConfiguration)

    def wait(self, is_over: Callable[[], bool]) -> None:
        """Wait until something is due, the journal changes, or `is_over`."""
        with self.journal.changed:
            left = [exchange.left_seconds for exchange in self.exchanges]
            seconds = min(wait for wait in left if wait is not None)
            if seconds > 0 and not is_over():
                self.journal.changed.wait(seconds)

    def _schedule(self) -> Schedule:
        """A fleet with a short interval is small, and its devices should be back soon after a failure."""
        limit = min(self.config.backoff_limit_seconds, max(30.0, 5 * self.session.interval_seconds))
        return Schedule(self.config.backoff_seconds, limit)

    def _send_report(self) -> float:
        self.session.send_report()
        return 0.0

    def _send_heartbeat(self) -> float:
        self.session.send_heartbeat()
        return self.session.interval_seconds * random.uniform(0.95, 1.0)  # noqa: S311

    def _send_attributes(self) -> float:
        self.session.send_attributes()
        return self.session.interval_seconds

    def _send_log_batch(self) -> float:
        self.logs.send_batch(self.session.enrol().device_id)
        return 0.0
