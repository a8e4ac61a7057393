"""Uploads of parts directly to the server's object storage, with a presigned URL for each part.

Storage gets no credentials: neither the API token nor those in ~/.netrc. A presigned URL expires after 15
minutes. If it has expired, or the bytes were damaged in transit, the client requests another URL from the server.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from kernex_cli import __version__
from kernex_cli.client import CONNECT_TIMEOUT_SECONDS, CONNECTIONS, READ_TIMEOUT_SECONDS, RETRIED, Client
from kernex_cli.credentials import LOOPBACK
from kernex_cli.errors import Refused, Unreachable, WaitFailed
from kernex_cli.responses import connection_problem, retry_after
from kernex_cli.retry_policy import RetryPolicy

MAX_TRIES = 5
# Storage no longer has the multipart upload: start the upload again.
UPLOAD_GONE = 404


@dataclass(frozen=True)
class Part:
    """One part of a blob. Storage checks the received bytes against `md5`; the server checks them against `sha256`."""

    number: int
    sha256: str
    md5: str

    def document(self) -> dict[str, Any]:
        """Return the part as the API expects it."""
        return {"number": self.number, "sha256": self.sha256, "md5": self.md5}


@dataclass(frozen=True)
class PresignedUrl:
    """The URL to send one part to, and the headers that its signature covers."""

    url: str
    headers: Mapping[str, str]

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> "PresignedUrl":
        return cls(document["url"], document["headers"])


class Storage:
    """Sends parts to presigned URLs. Each request is retried for as long as the client retries its calls."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.session = requests.Session()
        self.session.auth = _without_credentials
        self.session.headers["User-Agent"] = f"kernex/{__version__}"
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))

    def send(self, upload_id: str, part: Part, body: Iterable[bytes], url: PresignedUrl | None = None) -> bool:
        """Send one part, to `url` first if it is given. Return False if the upload was closed and must start again.

        Raises: `Unreachable`, `Refused`, `WaitFailed`.
        """
        status = 0
        for _ in range(MAX_TRIES):
            if url is None:
                url = self._new_url(upload_id, part)
            if url is None:
                return False
            status = self._put(url, body)
            if 200 <= status < 300:
                return True
            if status == UPLOAD_GONE:
                return False
            url = None
        raise WaitFailed(
            f"The server's storage refused part {part.number} {MAX_TRIES} times (status {status}): check the server's "
            "log and its storage key."
        )

    def _new_url(self, upload_id: str, part: Part) -> PresignedUrl | None:
        """Request a URL from the server. Return None if the upload is closed."""
        try:
            document = self.client.post(f"/uploads/{upload_id}/parts", {"parts": [part.document()]})
        except Refused as error:
            if error.code == "upload_closed":
                return None
            raise
        return PresignedUrl.parse(document["addresses"][0])

    def _put(self, url: PresignedUrl, body: Iterable[bytes]) -> int:
        """Return storage's status code. Retry temporary failures. Raises `Unreachable`."""
        host = urlsplit(url.url).netloc
        retries = RetryPolicy(self.client.retry_seconds, self.client.note)
        while True:
            minimum_seconds = 0.0
            try:
                response = self._request(url, body)
            except requests.exceptions.SSLError as error:
                raise Unreachable(
                    f"The server's storage {host}: the TLS connection failed ({connection_problem(error)})."
                ) from None
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                problem = f"cannot be reached: {connection_problem(error)}"
            else:
                if response.status_code not in RETRIED | {500}:
                    return response.status_code
                problem, minimum_seconds = f"returned {response.status_code}", retry_after(response)
            if not retries.wait(f"storage {problem}", minimum_seconds):
                raise Unreachable(f"The server's storage {host} {problem}. Run the same command again later.")

    def _request(self, url: PresignedUrl, body: Iterable[bytes]) -> requests.Response:
        # Use the environment's proxies and CA bundles, except for this machine.
        self.session.trust_env = urlsplit(url.url).hostname not in LOOPBACK
        return self.session.put(
            url.url, data=body, headers=dict(url.headers), timeout=(CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS),
            allow_redirects=False,
        )  # fmt: skip


def _without_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
