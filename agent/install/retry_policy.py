"""When a failed download is tried again, and when it is given up."""

import logging
from collections.abc import Callable

from agent.config import Config
from agent.errors import InstallationFailed, Refused, TryLater
from agent.releases.blob_store import WrongBytes
from agent.server.backoff import Backoff

logger = logging.getLogger(__name__)

# Waits for so many seconds, or raises if the work is to stop.
Pause = Callable[[float], None]


class RetryPolicy:
    """The tries for one thing that is downloaded.

    An unreachable or busy server is tried for as long as it takes. Refusals and wrong bytes are counted, and the last
    of `blob_tries` ends the installation.
    """

    def __init__(self, config: Config, pause: Pause) -> None:
        self._max_failures = config.blob_tries
        self._failures = 0
        self._backoff = Backoff(config.backoff_seconds, config.backoff_limit_seconds)
        self._pause = pause

    def progressed(self) -> None:
        """Let the pauses start short again, because bytes have arrived."""
        self._backoff.success()

    def unreachable(self, what: str, error: TryLater) -> None:
        """Wait before the next try, at least as long as the server asks."""
        logger.warning("Downloading the %s: %s", what, error)
        self._pause(self._backoff.failure(error.retry_after_seconds))

    def refused(self, what: str, error: Refused) -> None:
        """Wait before the next try. Raises `InstallationFailed` with `download_failed` after the last one."""
        self._count(InstallationFailed("download_failed", f"The {what} cannot be downloaded. {error}"))

    def wrong_bytes(self, error: WrongBytes) -> None:
        """Wait before the next try. Raises `InstallationFailed` with `bad_blob` after the last one."""
        self._count(InstallationFailed("bad_blob", str(error)))

    def wrong_manifest(self) -> None:
        """Wait before the next try. Raises `InstallationFailed` with `bad_manifest` after the last one."""
        message = "The server sends another manifest than the command names."
        self._count(InstallationFailed("bad_manifest", message, is_refusal=True))

    def _count(self, failure: InstallationFailed) -> None:
        self._failures += 1
        logger.warning("%s", failure)
        if self._failures >= self._max_failures:
            raise failure
        self._pause(self._backoff.failure())
