"""The schedule of a repeated request: after its interval, or after an increasing delay if it failed."""

import logging
import time

from agent.errors import AgentError, Refused, TryLater
from agent.server.backoff import Backoff

DECOMMISSIONED_SECONDS = 3600.0

log = logging.getLogger(__name__)


class Schedule:
    """The due time of one type of request. `first` and `limit` are the shortest and longest delay in seconds."""

    def __init__(self, first: float, limit: float) -> None:
        self.backoff = Backoff(first, limit)
        self.due_at = time.monotonic()

    @property
    def remaining_seconds(self) -> float:
        """The seconds until the request is due; 0 if it is due now."""
        return max(0.0, self.due_at - time.monotonic())

    @property
    def is_backing_off(self) -> bool:
        """Whether the last attempt failed and its delay is not over."""
        return self.backoff.failures > 0 and self.remaining_seconds > 0

    def make_due(self) -> None:
        """Make the request due now."""
        self.due_at = time.monotonic()

    def succeeded(self, interval_seconds: float) -> None:
        """Set the next due time after a success."""
        self.backoff.reset()
        self.due_at = time.monotonic() + interval_seconds

    def failed(self, error: AgentError) -> None:
        """Set the next due time after a failure: at least `Retry-After`, or one hour if decommissioned."""
        at_least = error.retry_after_seconds if isinstance(error, TryLater) else 0.0
        if isinstance(error, Refused) and error.code == "decommissioned":
            at_least = DECOMMISSIONED_SECONDS
        wait = self.backoff.next_delay(at_least)
        self.due_at = time.monotonic() + wait
        log.warning("%s Trying again in %.0f s.", error, wait)
