"""Whether storage answers, asked every few seconds by a thread of its own.

Nobody waits long for it: whoever asks gets the last answer, and a storage that hangs holds up no request for more than
`PATIENCE_SECONDS`, and only one at a time.
"""

import threading
import time
from typing import Any

from bundles.storage.s3_client import Bucket, translated
from foundation.errors import ApiError, Unavailable

ASK_EVERY_SECONDS = 15.0
ASK_AGAIN_SECONDS = 5.0
RETRY_AFTER_SECONDS = 5
PATIENCE_SECONDS = 2.0
SILENT = "The server's bundle storage does not answer; try again."


class Pulse:
    """The last answer of one bucket, kept with it."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.due_at = float("-inf")
        self.problem = ""
        self._lock = threading.Lock()
        self._asking: threading.Thread | None = None

    @classmethod
    def of(cls, bucket: Any) -> "Pulse":
        """The bucket's own."""
        pulse: Pulse = bucket.__dict__.setdefault("pulse", cls(bucket))
        return pulse

    def check(self) -> None:
        """Raises `Unavailable` if storage did not answer, or refused us, when last asked."""
        asking = None
        with self._lock:
            is_asking = self._asking is not None and self._asking.is_alive()
            if time.monotonic() > self.due_at and not is_asking:
                asking = self._asking = threading.Thread(target=self._ask, daemon=True)
                asking.start()
        if asking is not None:
            asking.join(PATIENCE_SECONDS)
            if asking.is_alive():
                self.problem = SILENT
        if self.problem:
            raise Unavailable("storage_unavailable", self.problem, RETRY_AFTER_SECONDS)

    def _ask(self) -> None:
        problem = ""
        try:
            with translated():
                self.bucket.client.head_bucket(Bucket=self.bucket.bucket_name)
        except ApiError as error:
            problem = "The server's bucket does not exist." if error.status == 404 else error.message
        self.problem = problem
        self.due_at = time.monotonic() + (ASK_AGAIN_SECONDS if problem else ASK_EVERY_SECONDS)
