"""The exchanges with the server: reports, heartbeats, attributes and logs, each with its own schedule."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.config import Config
from agent.errors import AgentError, BadConfiguration, NotEnrolled, Refused, TryLater
from agent.jobs.journal import Journal
from agent.server.log_delivery import LogDelivery
from agent.server.retry_schedule import Schedule
from agent.server.session import Session

FIRST_WAIT_SHARE, FIRST_WAIT_SECONDS = 0.25, 15.0
# The minimum time between early heartbeats, so that a flapping program does not flood the server.
EARLY_INTERVAL_SECONDS = 5.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Exchange:
    """One type of request. `send` sends one and returns the number of seconds until the next one is due.

    `is_wanted` returns whether there is anything to send.
    """

    schedule: Schedule
    is_wanted: Callable[[], bool]
    send: Callable[[], float]

    @property
    def remaining_seconds(self) -> float | None:
        """The seconds until the request is due, or None if there is nothing to send."""
        return self.schedule.remaining_seconds if self.is_wanted() else None


class ServerExchanges:
    """All exchanges of one thread. Reports are sent first, so that results arrive before the next heartbeat."""

    def __init__(self, config: Config, session: Session, journal: Journal, logs: LogDelivery) -> None:
        self.config = config
        self.session = session
        self.journal = journal
        self.logs = logs
        self.reports = Exchange(self._schedule(), lambda: bool(journal.state.outbox), self._send_report)
        self.heartbeat = Exchange(self._schedule(), lambda: True, self._send_heartbeat)
        self.attributes = Exchange(self._schedule(), lambda: session.has_new_attributes, self._send_attributes)
        self.log_batches = Exchange(self._schedule(), lambda: logs.is_wanted, self._send_log_batch)
        self._early_allowed_at = 0.0
        self.exchanges = (self.reports, self.heartbeat, self.attributes, self.log_batches)

    def delay_first_heartbeat(self) -> None:
        """Delay the first heartbeat by a random part of the interval, because a power cut may restart a whole fleet."""
        share = self.session.interval_seconds * FIRST_WAIT_SHARE
        self.heartbeat.schedule.succeeded(random.uniform(0, min(share, FIRST_WAIT_SECONDS)))  # noqa: S311

    def send_heartbeat_early(self) -> None:
        """Send the next heartbeat immediately, but at most one such heartbeat every `EARLY_INTERVAL_SECONDS`.

        After a failure or a refusal, including 429, the delay stays as it is. Thread-safe.
        """
        schedule = self.heartbeat.schedule
        if schedule.is_backing_off or schedule.remaining_seconds == 0 or time.monotonic() < self._early_allowed_at:
            return
        self._early_allowed_at = time.monotonic() + EARLY_INTERVAL_SECONDS
        with self.journal.changed:
            schedule.make_due()
            self.journal.changed.notify_all()

    def next_due(self) -> Exchange | None:
        """Return the first exchange that is due, or None."""
        return next((exchange for exchange in self.exchanges if exchange.remaining_seconds == 0), None)

    def attempt(self, exchange: Exchange) -> AgentError | None:
        """Send one request and schedule the next one. Return the error, or None.

        After an error, the caller decides whether to continue, and then calls `exchange.schedule.failed`.
        """
        try:
            exchange.schedule.succeeded(exchange.send())
        except AgentError as error:
            return error
        except OSError as error:
            return TryLater(f"The state directory cannot be used: {error}.")
        except Exception as error:
            log.exception("The exchange with the server failed unexpectedly; continuing.")
            return TryLater(f"Unexpected error: {type(error).__name__}.")
        return None

    def is_final(self, failure: AgentError) -> bool:
        """Return whether a retry cannot help, because this device is not enrolled and cannot enrol."""
        return self.session.enrolment is None and isinstance(failure, Refused | NotEnrolled | BadConfiguration)

    def wait(self, is_over: Callable[[], bool]) -> None:
        """Wait until a request is due, the journal changes, or `is_over` returns True."""
        with self.journal.changed:
            waits = [exchange.remaining_seconds for exchange in self.exchanges]
            seconds = min(wait for wait in waits if wait is not None)
            if seconds > 0 and not is_over():
                self.journal.changed.wait(seconds)

    def _schedule(self) -> Schedule:
        """Return a schedule. A fleet with a short interval is small, so its devices may retry sooner."""
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
