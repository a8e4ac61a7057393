"""The retry policy of downloads: when to retry, and when to fail."""

import logging
from collections.abc import Callable

from agent.config import Config
from agent.errors import InstallationFailed, Refused, TryLater
from agent.releases.blob_store import WrongBytes
from agent.server.backoff import Backoff

logger = logging.getLogger(__name__)

# Waits for the given number of seconds, or raises if the work has to stop.
Pause = Callable[[float], None]


class RetryPolicy:
    """The attempts to download one file.

    While the server cannot be reached or is busy, the number of attempts is unlimited. `blob_tries` refusals or
    responses with wrong bytes end the installation.
    """

    def __init__(self, config: Config, pause: Pause) -> None:
        self._max_failures = config.blob_tries
        self._failures = 0
        self._backoff = Backoff(config.backoff_seconds, config.backoff_limit_seconds)
        self._pause = pause

    def progressed(self) -> None:
        """Reset the delay, because bytes have arrived."""
        self._backoff.reset()

    def unreachable(self, name: str, error: TryLater) -> None:
        """Wait before the next attempt, at least as long as the server requests."""
        logger.warning("Downloading the %s: %s", name, error)
        self._pause(self._backoff.next_delay(error.retry_after_seconds))

    def refused(self, name: str, error: Refused) -> None:
        """Wait before the next attempt. Raises `InstallationFailed` with `download_failed` after the last attempt."""
        self._count(InstallationFailed("download_failed", f"The {name} cannot be downloaded. {error}"))

    def wrong_bytes(self, error: WrongBytes) -> None:
        """Wait before the next attempt. Raises `InstallationFailed` with `bad_blob` after the last attempt."""
        self._count(InstallationFailed("bad_blob", str(error)))

    def wrong_manifest(self) -> None:
        """Wait before the next attempt. Raises `InstallationFailed` with `bad_manifest` after the last attempt."""
        message = "The server sends a different manifest than the one in the command."
        self._count(InstallationFailed("bad_manifest", message, is_refusal=True))

    def _count(self, failure: InstallationFailed) -> None:
        self._failures += 1
        logger.warning("%s", failure)
        if self._failures >= self._max_failures:
            raise failure
        self._pause(self._backoff.next_delay())
