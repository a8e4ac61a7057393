"""The HTTP client of the operators' API: one session, explicit timeouts, retries with backoff.

Failed connections and the statuses 429, 502, 503 and 504 are retried; `Retry-After` is obeyed. A call that is not
idempotent is retried only if it had no effect: it never reached the server, or the status was 429 or 503.
The token is never sent to another host: redirects are not followed, and only the query of a page's `next` link is used.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import NewConnectionError

from kernex_cli import __version__
from kernex_cli.credentials import LOOPBACK, Credentials
from kernex_cli.errors import Unreachable
from kernex_cli.responses import (
    REQUEST_NOT_REPEATABLE,
    RUN_AGAIN,
    connection_problem,
    document_of,
    error_summary,
    not_like_kernex,
    raise_for_status,
    retry_after,
)
from kernex_cli.retry_policy import RetryPolicy

CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS = 10, 120
RETRIED = {429, 502, 503, 504}
WITHOUT_EFFECT = {429, 503}
PAGE_SIZE = 500
CONNECTIONS = 8
CHUNK_SIZE = 64 * 1024


@dataclass(eq=False)
class TemporaryFailure(Exception):
    """An attempt that failed but may succeed later. `final` is raised if no attempt succeeds."""

    reason: str
    final: Unreachable
    may_retry: bool
    retry_after_seconds: float = 0.0


class BearerToken(AuthBase):
    """Adds the API token to each request. As `auth`, it takes precedence over ~/.netrc."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class Client:
    """Calls one server. Each call is retried for `retry_seconds`; `note` is called before each wait."""

    def __init__(self, credentials: Credentials, retry_seconds: float, note: Callable[[str], None]) -> None:
        self.server = credentials.server
        self.retry_seconds = retry_seconds
        self.note = note
        self.session = requests.Session()
        self.session.auth = BearerToken(credentials.token)
        self.session.headers["User-Agent"] = f"kernex/{__version__}"
        self.session.headers["Accept"] = "application/json"
        self.session.trust_env = urlsplit(credentials.server).hostname not in LOOPBACK  # proxies, CA bundles
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        return self.call("GET", path, params=params)

    def post(self, path: str, body: object = None, *, idempotent: bool = True) -> Any:
        return self.call("POST", path, json=body if body is not None else {}, idempotent=idempotent)

    def delete(self, path: str) -> None:
        """Send a DELETE, which is not idempotent: a second request would get a 404."""
        self.call("DELETE", path, idempotent=False)

    def text(self, path: str) -> str:
        """Return a plain-text response. Raises as `call` does."""
        response = self._send("GET", path, idempotent=True)
        response.encoding = "utf-8"
        return response.text

    def lines(self, path: str, params: Mapping[str, str], content_type: str) -> Iterator[str]:
        """Yield the lines of a response of this type while they arrive.

        Raises as `call` does, also `Unreachable` if the connection breaks before the end.
        """
        response = self._send("GET", path, idempotent=True, params=params, stream=True)
        with response:
            if not response.headers.get("Content-Type", "").startswith(content_type):
                raise not_like_kernex(self.server)
            pending = b""
            try:
                for chunk in response.iter_content(CHUNK_SIZE):
                    *lines, pending = (pending + chunk).split(b"\n")
                    for line in lines:
                        yield line.removesuffix(b"\r").decode(errors="replace")
            except requests.RequestException as error:
                reason = connection_problem(error)
                raise Unreachable(f"{self.server}: the output is incomplete ({reason}). {RUN_AGAIN}") from None

    def pages(self, path: str, params: Mapping[str, str], limit: int = 0) -> list[Any]:
        """Return all items of a list, or the first `limit` of them."""
        items: list[Any] = []
        query = {**params, "page_size": str(min(limit or PAGE_SIZE, PAGE_SIZE))}
        while True:
            page = self.get(path, query)
            items += page["results"]
            if not page["next"] or (limit and len(items) >= limit):
                return items[:limit] if limit else items
            query = dict(parse_qsl(urlsplit(page["next"]).query))

    def call(self, method: str, path: str, *, idempotent: bool = True, **request: Any) -> Any:
        """Return the response's JSON; `path` starts after `/api/v1`.

        Raises: `NotAllowed`, `Refused`, `Unreachable`.
        """
        return document_of(self._send(method, path, idempotent=idempotent, **request), self.server)

    def _send(self, method: str, path: str, *, idempotent: bool, **request: Any) -> requests.Response:
        retries = RetryPolicy(self.retry_seconds, self.note)
        while True:
            try:
                return self._try(method, path, idempotent, request)
            except TemporaryFailure as failure:
                if not failure.may_retry or not retries.wait(failure.reason, failure.retry_after_seconds):
                    raise failure.final from None

    def _try(self, method: str, path: str, idempotent: bool, request: Mapping[str, Any]) -> requests.Response:
        try:
            response = self.session.request(
                method, f"{self.server}/api/v1{path}", timeout=(CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS),
                allow_redirects=False, **request,
            )  # fmt: skip
        except requests.exceptions.SSLError as error:
            raise Unreachable(
                f"{self.server}: the TLS connection failed ({connection_problem(error)}). Check the URL. If the server "
                "uses your own certificate authority, set REQUESTS_CA_BUNDLE."
            ) from None
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise self._connection_failure(error, idempotent) from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise Unreachable(f"{self.server} is not a valid URL: {error}.") from None
        if response.status_code in RETRIED:
            raise self._temporary_refusal(response, idempotent)
        raise_for_status(response, self.server)
        return response

    def _connection_failure(self, error: requests.RequestException, idempotent: bool) -> TemporaryFailure:
        may_retry = idempotent or _never_arrived(error)
        advice = RUN_AGAIN if may_retry else REQUEST_NOT_REPEATABLE
        final = Unreachable(f"{self.server} cannot be reached: {connection_problem(error)}. {advice}")
        return TemporaryFailure(f"{self.server} does not respond", final, may_retry)

    def _temporary_refusal(self, response: requests.Response, idempotent: bool) -> TemporaryFailure:
        may_retry = idempotent or response.status_code in WITHOUT_EFFECT
        final = Unreachable(f"{error_summary(response)}. {RUN_AGAIN if may_retry else REQUEST_NOT_REPEATABLE}")
        reason = f"{self.server} returned {response.status_code}"
        return TemporaryFailure(reason, final, may_retry, retry_after(response))


def _never_arrived(error: requests.RequestException) -> bool:
    """Return True if no byte of the request can have reached the server."""
    inner = error.args[0] if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(getattr(inner, "reason", None), NewConnectionError)
