"""The bucket: django-storages' S3 backend with few clients per process, its errors, and its availability."""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from storages.backends.s3 import S3Storage
from urllib3.exceptions import HTTPError

from foundation.errors import ApiError, NotFound, Unavailable

logger = logging.getLogger(__name__)

# For all clients: SigV4 (the default for endpoints other than AWS would be version 2), the bucket in the path, and no
# checksums that only AWS supports.
COMMON = Config(
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    connect_timeout=3,
    max_pool_connections=16,
    tcp_keepalive=True,
)
# For web workers: a thread waits for a few seconds at most.
HASTY = COMMON.merge(Config(read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2}))
# For the scheduler: it may wait for a copy, but deployments make no progress while it waits.
PATIENT = COMMON.merge(Config(read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3}))
ABSENT = {"404", "NoSuchKey", "NoSuchUpload"}
BUSY = {"SlowDown", "ServiceUnavailable", "RequestLimitExceeded", "Throttling", "TooManyRequests", "503", "429"}
BUSY_SECONDS, AWAY_SECONDS = 5, 15

CHECK_EVERY_SECONDS = 15.0
RECHECK_SECONDS = 5.0
RETRY_AFTER_SECONDS = 5
PATIENCE_SECONDS = 2.0
SILENT = "The server's bundle storage does not respond; try again."


class Bucket(S3Storage):  # type: ignore[misc]  # django-storages has no types
    """One bucket. Clients are created when first used, after a fork, and shared by all threads of the process.

    django-storages creates one per thread, and each needs about 10 MB. `public_endpoint_url` is the URL under which
    devices and publishers reach the same storage, if it is not `endpoint_url`.
    """

    def __init__(self, public_endpoint_url: str | None = None, **options: Any) -> None:
        super().__init__(client_config=HASTY, file_overwrite=False, default_acl=None, **options)
        self.public_endpoint_url = public_endpoint_url
        self.availability = Availability(self)
        self.partial_hashes = PartialHashes()
        self._clients: dict[tuple[int, str], Any] = {}
        self._creating = threading.Lock()

    @property
    def connection(self) -> Any:
        return self._client("hasty", self.endpoint_url, HASTY)

    @property
    def client(self) -> Any:
        """The client for web workers: gives up after a few seconds."""
        return self.connection.meta.client

    @property
    def patient(self) -> Any:
        """The client for the scheduler and for commands."""
        return self._client("patient", self.endpoint_url, PATIENT).meta.client

    @property
    def signing(self) -> Any:
        """The client that signs URLs for devices and publishers, without a request."""
        if not self.public_endpoint_url:
            return self.client
        return self._client("signing", self.public_endpoint_url, HASTY).meta.client

    def _client(self, name: str, endpoint_url: str | None, config: Config) -> Any:
        key = (os.getpid(), name)
        if key not in self._clients:
            with self._creating:
                if key not in self._clients:
                    self._clients[key] = self._create_session().resource(
                        "s3", region_name=self.region_name, endpoint_url=endpoint_url or None, config=config
                    )
        return self._clients[key]


class Availability:
    """Whether a bucket responds, checked every few seconds by a thread.

    Callers get the last result. If storage hangs, only one request at a time waits for it, for at most
    `PATIENCE_SECONDS`.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.due_at = float("-inf")
        self.problem = ""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Raise `Unavailable` if storage did not respond, or refused our key, when it was last checked."""
        started = None
        with self._lock:
            is_running = self._thread is not None and self._thread.is_alive()
            if time.monotonic() > self.due_at and not is_running:
                started = self._thread = threading.Thread(target=self._check_now, daemon=True)
                started.start()
        if started is not None:
            started.join(PATIENCE_SECONDS)
            if started.is_alive():
                self.problem = SILENT
        if self.problem:
            raise Unavailable("storage_unavailable", self.problem, RETRY_AFTER_SECONDS)

    def _check_now(self) -> None:
        problem = ""
        try:
            with translated():
                self.bucket.client.head_bucket(Bucket=self.bucket.bucket_name)
        except ApiError as error:
            problem = "The server's bucket does not exist." if error.status == 404 else error.message
        self.problem = problem
        self.due_at = time.monotonic() + (RECHECK_SECONDS if problem else CHECK_EVERY_SECONDS)


@dataclass
class PartialHash:
    """The hash of the first `size` bytes of an object with this ETag."""

    etag: str
    size: int = 0
    hash: Any = field(default_factory=hashlib.sha256)


class PartialHashes:
    """The hashes of large objects that this process computes a few seconds at a time. Others start from scratch."""

    def __init__(self) -> None:
        self._by_key: dict[str, PartialHash] = {}

    def get(self, key: str, etag: str) -> PartialHash:
        """Return the hash to continue with: what was computed before, unless the object has changed."""
        partial = self._by_key.get(key)
        if partial is None or partial.etag != etag:
            partial = self._by_key[key] = PartialHash(etag)
        return partial

    def forget(self, key: str) -> None:
        """Drop what was computed for `key`."""
        self._by_key.pop(key, None)


@contextmanager
def translated() -> Iterator[None]:
    """Translate storage's errors into the API's: `NotFound` (`unknown_blob`) or `Unavailable`."""
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        if code in ABSENT:
            raise NotFound("unknown_blob", "There is no blob with this sha256.") from None
        if code in BUSY:
            raise Unavailable("storage_busy", "Bundle storage is busy right now; try again.", BUSY_SECONDS) from error
        raise _unavailable(error) from error
    except (BotoCoreError, HTTPError, OSError) as error:
        raise _unavailable(error) from error


def code_of(error: ClientError) -> str:
    """Return S3's error code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _unavailable(error: Exception) -> Unavailable:
    """Log why storage cannot be used. The reason is not sent to the client."""
    logger.warning("bundle storage cannot be used: %s", str(error).partition("\n")[0][:300])
    return Unavailable(
        "storage_unavailable", "The server's bundle storage cannot be used right now; try again.", AWAY_SECONDS
    )
