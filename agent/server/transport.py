"""HTTP: the only file that imports requests.

Every answer is read in small pieces with a limit on its size and on its time. Nothing of the environment is believed
(no proxies, no ~/.netrc), no cookie is kept, no redirect is followed by itself, and nothing is decompressed.
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
MAX_RETRY_AFTER_SECONDS = 3600
REDIRECTS = {301, 302, 303, 307, 308}
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer of bounded size."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Stream:
    """An answer whose body is still on its way."""

    def __init__(self, response: requests.Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._raw: BaseHTTPResponse = response.raw

    def chunks(self) -> Iterator[bytes]:
        """The bytes as they come, at most `CHUNK_SIZE` at a time. Raises `TryLater` when they stop coming."""
        while True:
            try:
                # Not `read`: it would wait for a whole chunk, however slowly the bytes drip.
                chunk = self._raw.read1(CHUNK_SIZE, decode_content=False)
            except (HTTPError, HTTPException, OSError, ValueError) as error:
                raise TryLater(f"The answer was cut: {_reason(error)}.") from None
            if not chunk:
                return
            yield chunk

    def read(self, limit: int, seconds: float) -> bytes:
        """The whole body. Raises `TryLater` for one that is larger or slower than that."""
        gives_up_at = time.monotonic() + seconds
        body = bytearray()
        for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise TryLater(f"The answer is larger than {limit} bytes: that is no Kernex.")
            if time.monotonic() > gives_up_at:
                raise TryLater(f"The answer took longer than {seconds:.0f} seconds.")
        announced = whole_number(self.headers.get("Content-Length", ""))
        if announced is not None and announced != len(body):
            raise TryLater("The answer was cut.")
        return bytes(body)


class Transport:
    """Connections of one thread."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._session = _session(config)

    def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes, limit: int) -> Answer:
        """One request and its whole answer, of at most `limit` bytes. Raises `TryLater`."""
        with self.open(method, url, headers, body) as stream:
            return Answer(stream.status, stream.headers, stream.read(limit, self.config.answer_timeout_seconds))

    @contextmanager
    def open(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Iterator[Stream]:
        """One request; the body of its answer is read by the caller. Raises `TryLater`."""
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
    def open_elsewhere(self, base: str, location: str, headers: Mapping[str, str]) -> Iterator[Stream]:
        """Follow one redirect, to https or to http on the same host, on a connection that knows nothing of this device.

        `headers` must not hold a signature. Raises `TryLater`, also for a second redirect.
        """
        try:
            url = urljoin(base, location)
            parts = urlsplit(url)
        except ValueError:
            raise TryLater("The server redirects to what is no address.") from None
        if parts.scheme != "https" and (parts.scheme != "http" or parts.hostname != urlsplit(base).hostname):
            raise TryLater("The server redirects to an address without TLS on another host; that is not followed.")
        stranger = Transport(self.config)
        with stranger.open("GET", url, headers) as stream:
            if stream.status in REDIRECTS:
                raise TryLater("The server redirects twice; that is not followed.")
            yield stream


class _Watched(HTTPConnection):
    """A connection on which the head of an answer has to come in time: the socket only limits each silence."""

    def __init__(self, *args: Any, head_seconds: float, **kwargs: Any) -> None:
        self.head_seconds = head_seconds
        super().__init__(*args, **kwargs)

    def getresponse(self) -> Any:
        watchdog = threading.Timer(self.head_seconds, _shut_down, (self.sock,))
        watchdog.daemon = True
        watchdog.start()
        try:
            return super().getresponse()
        finally:
            watchdog.cancel()


class _WatchedWithTLS(_Watched, HTTPSConnection):
    """The same with TLS."""


class _Adapter(HTTPAdapter):
    """Makes watched connections."""

    def __init__(self, head_seconds: float) -> None:
        self.head_seconds = head_seconds
        super().__init__()

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _WatchedWithTLS if pool.scheme == "https" else _Watched
        pool.conn_kw["head_seconds"] = self.head_seconds
        return pool


def _shut_down(connection: socket.socket) -> None:
    """Whoever reads from it reads its end. Not TLS's own goodbye, for which the other side would have to answer."""
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def retry_after_seconds(headers: Mapping[str, str]) -> float:
    """How long the server asks us to wait, in seconds; 0 if it does not say."""
    return float(min(whole_number(headers.get("Retry-After", "")) or 0, MAX_RETRY_AFTER_SECONDS))


def whole_number(text: str) -> int | None:
    """The number that a header names; None for anything else, also for digits without end."""
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
    """The innermost cause in a few words; the whole text of requests' errors repeats the address."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _reason(reason)
    return f"{type(error).__name__}: {error}"[:200]
