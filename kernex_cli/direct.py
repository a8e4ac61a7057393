"""Parts of uploads that go to the server's storage itself, at addresses that the server signs for one part each.

The storage gets no credentials: neither the API token, nor what a ~/.netrc may hold. An address ends after a quarter of
an hour; then, and when the bytes were damaged on the way, the server is asked for another.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from kernex_cli import __version__
from kernex_cli.client import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    CONNECTIONS,
    LATER,
    Client,
    reason_of,
    retry_after,
)
from kernex_cli.credentials import LOOPBACK
from kernex_cli.errors import Refused, Unreachable, WaitFailed
from kernex_cli.patience import Patience

TRIES = 5
# The multipart upload is gone: the server is asked for the whole upload anew.
GONE = 404


class Storage:
    """Where addresses lead to. `patience_seconds` is how long one part goes on being tried."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.session = requests.Session()
        self.session.auth = _without_credentials
        self.session.headers["User-Agent"] = f"kernex/{__version__}"
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))

    def send(
        self, upload: str, line: Mapping[str, Any], body: Iterable[bytes], address: Mapping[str, Any] | None = None
    ) -> bool:
        """Send one part; `line` announces it. False when the upload is closed: it is then asked for anew.

        Raises `Unreachable`, `Refused`, `WaitFailed`.
        """
        status = 0
        for _ in range(TRIES):
            if address is None:
                try:
                    address = self.client.post(f"/uploads/{upload}/parts", {"parts": [line]})["addresses"][0]
                except Refused as error:
                    if error.code == "upload_closed":
                        return False
                    raise
            status = self._put(address, body)
            if 200 <= status < 300:
                return True
            if status == GONE:
                return False
            address = None
        raise WaitFailed(
            f"The server's storage refused part {line['number']} {TRIES} times (status {status}): look into the "
            "server's log and at the key that it uses."
        )

    def _put(self, address: Mapping[str, Any], body: Iterable[bytes]) -> int:
        """The status that storage answers; what says "later" is tried again. Raises `Unreachable`."""
        host = urlsplit(address["url"]).netloc
        patience = Patience(self.client.patience_seconds, self.client.note)
        while True:
            at_least_seconds = 0.0
            try:
                response = self._request(address, body)
            except requests.exceptions.SSLError as error:
                raise Unreachable(f"The server's storage {host} cannot prove who it is ({error}).") from None
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                trouble = f"cannot be reached: {reason_of(error)}"
            else:
                if response.status_code not in LATER | {500}:
                    return response.status_code
                trouble, at_least_seconds = f"answers {response.status_code}", retry_after(response)
            if not patience.wait(f"storage {trouble}", at_least_seconds):
                raise Unreachable(f"The server's storage {host} {trouble}. Run the same command again later.")

    def _request(self, address: Mapping[str, Any], body: Iterable[bytes]) -> requests.Response:
        # Proxies and CA bundles of the environment, except towards this very machine.
        self.session.trust_env = urlsplit(address["url"]).hostname not in LOOPBACK
        return self.session.put(
            address["url"], data=body, headers=dict(address["headers"]), timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
            allow_redirects=False,
        )  # fmt: skip


def _without_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
