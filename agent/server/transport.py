"""The HTTP transport. This is the only module that imports requests.

Every response is read in small chunks, with limits on its size and duration. The transport ignores the environment
(proxy variables, ~/.netrc), drops cookies, follows redirects only in `open_redirect`, and decompresses nothing.
"""

import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from agent import __version__
from agent.config import Config
from agent.errors import TryLater

CHUNK_SIZE = 128 * 1024
MAX_RESPONSE_SIZE = 4 * 1024 * 1024
MAX_RETRY_AFTER_SECONDS = 3600
REDIRECTS = {301, 302, 303, 307, 308}
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response of bounded size."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Stream:
    """A response whose body is still arriving."""

    def __init__(self, response: requests.Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._raw: BaseHTTPResponse = response.raw

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes as they arrive, at most `CHUNK_SIZE` at a time. Raises `TryLater` if they stop arriving."""
        while True:
            try:
                # `read` would wait for a full chunk, however slowly the bytes arrive.
                chunk = self._raw.read1(CHUNK_SIZE, decode_content=False)
            except (HTTPError, HTTPException, OSError, ValueError) as error:
                raise TryLater(f"The response was cut off: {_reason(error)}.") from None
            if not chunk:
                return
            yield chunk

    def read(self, limit: int, seconds: float) -> bytes:
        """Return the complete body. Raises `TryLater` if it is larger than `limit` or takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        body = bytearray()
        for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise TryLater(f"The response is larger than {limit} bytes, so it does not come from Kernex.")
            if time.monotonic() > deadline:
                raise TryLater(f"The response took longer than {seconds:.0f} seconds.")
        declared_size = whole_number(self.headers.get("Content-Length", ""))
        if declared_size is not None and declared_size != len(body):
            raise TryLater("The response was cut off.")
        return bytes(body)


class Transport:
    """The connections of one thread."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._session = _session(config)

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Send a request and return the complete response, at most `MAX_RESPONSE_SIZE` bytes. Raises `TryLater`."""
        with self.open(method, url, headers, body) as stream:
            content = stream.read(MAX_RESPONSE_SIZE, self.config.answer_timeout_seconds)
            return Response(stream.status, stream.headers, content)

    @contextmanager
    def open(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Iterator[Stream]:
        """Send a request; the caller reads the body of the response. Raises `TryLater`."""
        timeout = (self.config.connect_timeout_seconds, self.config.read_timeout_seconds)
        try:
            response = self._session.request(
                method, url, headers=headers, data=body or None, timeout=timeout, stream=True, allow_redirects=False
            )
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise TryLater(f"{urlsplit(url).netloc} cannot be reached: {_reason(error)}.") from None
        try:
            yield Stream(response)
        finally:
            response.close()

    @contextmanager
    def open_redirect(self, base: str, location: str, headers: Mapping[str, str]) -> Iterator[Stream]:
        """Follow one redirect on a separate connection. The target must use https, or http on the same host.

        `headers` must not contain a signature, because this device's credentials are only for the control plane. Raises
        `TryLater`, including for a second redirect.
        """
        try:
            url = urljoin(base, location)
            parts = urlsplit(url)
        except ValueError:
            raise TryLater("The server redirects to an invalid URL.") from None
        if parts.scheme != "https" and (parts.scheme != "http" or parts.hostname != urlsplit(base).hostname):
            raise TryLater("The server redirects to another host without TLS, which the agent does not follow.")
        with Transport(self.config).open("GET", url, headers) as stream:
            if stream.status in REDIRECTS:
                raise TryLater("The redirect leads to another redirect, which the agent does not follow.")
            yield stream


class _TimedConnection(HTTPConnection):
    """A connection with a limit on the time until all headers have arrived. Socket timeouts limit only each read."""

    def __init__(self, *args: Any, headers_timeout_seconds: float, **kwargs: Any) -> None:
        self.headers_timeout_seconds = headers_timeout_seconds
        super().__init__(*args, **kwargs)

    def getresponse(self) -> Any:
        watchdog = threading.Timer(self.headers_timeout_seconds, _shut_down, (self.sock,))
        watchdog.daemon = True
        watchdog.start()
        try:
            return super().getresponse()
        finally:
            watchdog.cancel()


class _TimedTLSConnection(_TimedConnection, HTTPSConnection):
    """A `_TimedConnection` with TLS."""


class _Adapter(HTTPAdapter):
    """Opens connections with a limit on the time until all headers of a response have arrived."""

    def __init__(self, headers_timeout_seconds: float) -> None:
        self.headers_timeout_seconds = headers_timeout_seconds
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _TimedTLSConnection if pool.scheme == "https" else _TimedConnection
        pool.conn_kw["headers_timeout_seconds"] = self.headers_timeout_seconds
        return pool


def _shut_down(connection: socket.socket) -> None:
    """Shut down the TCP connection, so that a blocked read returns. A TLS shutdown would wait for the server."""
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def retry_after_seconds(headers: Mapping[str, str]) -> float:
    """Return the seconds in `Retry-After`, at most one hour, or 0 without a valid header."""
    return float(min(whole_number(headers.get("Retry-After", "")) or 0, MAX_RETRY_AFTER_SECONDS))


def whole_number(text: str) -> int | None:
    """Return the number in a header; None for anything else, including numbers with more than 18 digits."""
    return int(text) if _NUMBER.fullmatch(text) else None


def _session(config: Config) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.clear()
    session.headers.update({"User-Agent": f"kernex-agent/{__version__}", "Accept-Encoding": "identity"})
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter(config.answer_timeout_seconds))
    if config.proxy:
        session.proxies = {"http": config.proxy, "https": config.proxy}
    if config.ca_file:
        session.verify = config.ca_file
    return session


def _reason(error: BaseException) -> str:
    """Return the innermost cause as a short text, without the URL that an error from requests repeats."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _reason(reason)
    return f"{type(error).__name__}: {error}"[:200]
