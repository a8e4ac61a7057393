"""The bucket: django-storages' S3 backend with few clients a process, and its complaints in the API's words."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from storages.backends.s3 import S3Storage
from urllib3.exceptions import HTTPError

from foundation.errors import NotFound, Unavailable

logger = logging.getLogger(__name__)

# What every client is: SigV4 (the default for other endpoints than AWS would be version 2), the bucket in the path,
# and no checksums that only AWS knows.
COMMON = Config(
    signature_version="s3v4",
    s3={"addressing_style": "path"},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    connect_timeout=3,
    max_pool_connections=16,
    tcp_keepalive=True,
)
# A web worker's thread is held up for seconds at most; the scheduler may wait for a copy to be made, but not so long
# that rollouts stand still behind it.
HASTY = COMMON.merge(Config(read_timeout=5, retries={"mode": "standard", "total_max_attempts": 2}))
PATIENT = COMMON.merge(Config(read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3}))
ABSENT = {"404", "NoSuchKey", "NoSuchUpload"}
BUSY = {"SlowDown", "ServiceUnavailable", "RequestLimitExceeded", "Throttling", "TooManyRequests", "503", "429"}
BUSY_SECONDS, AWAY_SECONDS = 5, 15


class Bucket(S3Storage):  # type: ignore[misc]  # django-storages has no types
    """One bucket. Clients are made when first used, after a fork, and shared by all threads of the process.

    django-storages makes one a thread, and each takes about 10 MB. `public_endpoint_url` is the address under which
    devices and publishers reach the same storage, if that is another one.
    """

    def __init__(self, public_endpoint_url: str | None = None, **options: Any) -> None:
        super().__init__(client_config=HASTY, file_overwrite=False, default_acl=None, **options)
        self.public_endpoint_url = public_endpoint_url
        self._clients: dict[tuple[int, str], Any] = {}
        self._making = Lock()

    @property
    def connection(self) -> Any:
        return self._made("hasty", self.endpoint_url, HASTY)

    @property
    def client(self) -> Any:
        """For web workers: gives up after seconds."""
        return self.connection.meta.client

    @property
    def patient(self) -> Any:
        """For the scheduler and for commands."""
        return self._made("patient", self.endpoint_url, PATIENT).meta.client

    @property
    def signing(self) -> Any:
        """Signs addresses for devices and publishers, without a call."""
        if not self.public_endpoint_url:
            return self.client
        return self._made("signing", self.public_endpoint_url, HASTY).meta.client

    def _made(self, name: str, endpoint_url: str | None, config: Config) -> Any:
        key = (os.getpid(), name)
        if key not in self._clients:
            with self._making:
                if key not in self._clients:
                    self._clients[key] = self._create_session().resource(
                        "s3", region_name=self.region_name, endpoint_url=endpoint_url or None, config=config
                    )
        return self._clients[key]


@contextmanager
def translated() -> Iterator[None]:
    """What storage complains about, in the API's words. Raises `NotFound` (`unknown_blob`) or `Unavailable`."""
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        if code in ABSENT:
            raise NotFound("unknown_blob", "There is no blob with this sha256.") from None
        if code in BUSY:
            raise Unavailable("storage_busy", "Bundle storage is busy right now; try again.", BUSY_SECONDS) from error
        raise _away(error) from error
    except (BotoCoreError, HTTPError, OSError) as error:
        raise _away(error) from error


def code_of(error: ClientError) -> str:
    """S3's word for what is wrong."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _away(error: Exception) -> Unavailable:
    """Storage cannot be used. The log says why; whoever asked does not learn it."""
    logger.warning("bundle storage cannot be used: %s", str(error).partition("\n")[0][:300])
    return Unavailable(
        "storage_unavailable", "The server's bundle storage cannot be used right now; try again.", AWAY_SECONDS
    )
