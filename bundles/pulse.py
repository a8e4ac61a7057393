"""Whether storage answers, asked at most every few seconds and by one thread at a time.

Others meanwhile believe the last answer: a storage that hangs holds up one thread of a process, not all of them.
"""

import time
from threading import Lock
from typing import Any

from bundles.bucket import Bucket, translated
from kernex.errors import ApiError, Unavailable

ASK_EVERY_SECONDS = 15.0


class Pulse:
    """The last answer of one bucket, kept with it."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.asked_at = float("-inf")
        self.failure: ApiError | None = None
        self._asking = Lock()

    @classmethod
    def of(cls, bucket: Any) -> "Pulse":
        """The bucket's own."""
        pulse: Pulse = bucket.__dict__.setdefault("pulse", cls(bucket))
        return pulse

    def check(self) -> None:
        """Raises `Unavailable` if storage did not answer, or refused us, when last asked."""
        if time.monotonic() - self.asked_at > ASK_EVERY_SECONDS and self._asking.acquire(blocking=False):
            try:
                self.failure = self._ask()
                self.asked_at = time.monotonic()
            finally:
                self._asking.release()
        if self.failure is not None:
            raise Unavailable("storage_unavailable", self.failure.message, 15)

    def _ask(self) -> ApiError | None:
        try:
            with translated():
                self.bucket.client.head_bucket(Bucket=self.bucket.bucket_name)
        except ApiError as error:  # also 404: there is no such bucket
            return error
        return None
