"""When the daemon does something next."""

import logging
import time

from agent.errors import AgentError, Refused, TryLater
from agent.server.backoff import Backoff

DECOMMISSIONED_SECONDS = 3600.0

log = logging.getLogger(__name__)


class Schedule:
    """When to do something next: at its interval, or after a failure with a wait that grows."""

    def __init__(self, first: float, limit: float) -> None:
        self.backoff = Backoff(first, limit)
        self.due_at = time.monotonic()

    @property
    def left_seconds(self) -> float:
        return max(0.0, self.due_at - time.monotonic())

    @property
    def is_waiting(self) -> bool:
        """Whether the last try failed and the wait after it is not over."""
        return self.backoff.failures > 0 and self.left_seconds > 0

    def succeeded(self, interval_seconds: float) -> None:
        self.backoff.success()
        self.due_at = time.monotonic() + interval_seconds

    def failed(self, error: AgentError) -> None:
        at_least = error.retry_after_seconds if isinstance(error, TryLater) else 0.0
        if isinstance(error, Refused) and error.code == "decommissioned":
            at_least = DECOMMISSIONED_SECONDS
        wait = self.backoff.failure(at_least)
        self.due_at = time.monotonic() + wait
        log.warning("%s Trying again in %.0f s.", error, wait)
