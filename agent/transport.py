"""All HTTP of the agent. The only file that knows requests.

Every request is signed, has timeouts, follows no redirect by itself, and reads no more than it was allowed to. The
device's signature goes to the control plane alone: where a blob is answered with an address at a storage, that
address is fetched once, without any credential.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from agent.config import LOOPBACK, Config
from agent.errors import Answered, Unreachable
from agent.identity import Identity

MAX_ANSWER_SIZE = 1024 * 1024
CHUNK_SIZE = 256 * 1024
DEFAULT_PORTS = {"https": 443, "http": 80}


class Server(Protocol):
    """What the agent needs of a control plane."""

    def call(self, method: str, path: str, body: object = None, sequence: int | None = None) -> dict[str, Any]: ...

    def fetch(self, path: str, most: int) -> bytes: ...

    def download(self, path: str, offset: int) -> Iterator[bytes]: ...


class HttpServer:
    """A control plane over HTTP. `clock_offset` gives the seconds to add to this device's clock."""

    def __init__(self, config: Config, identity: Identity, clock_offset: Callable[[], float]) -> None:
        self.base = config.server.rstrip("/")
        url = urlsplit(self.base)
        port = url.port if url.port not in {None, DEFAULT_PORTS[url.scheme]} else None
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
        self.authority = f"{host}:{port}" if port else str(host)
        self.may_use_http = url.scheme == "http"
        self.identity = identity
        self.clock_offset = clock_offset
        self.timeouts = (config.connect_timeout_seconds, config.read_timeout_seconds)
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.clear()

    def call(self, method: str, path: str, body: object = None, sequence: int | None = None) -> dict[str, Any]:
        """One JSON request; the answer's object. Raises `Unreachable` or `Answered`."""
        raw = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        with self._send(method, path, raw, sequence=sequence) as response:
            return self._object(self._read(response, MAX_ANSWER_SIZE))

    def fetch(self, path: str, most: int) -> bytes:
        """The bytes at `path`, at most `most`. Raises `Unreachable` or `Answered`."""
        with self._send("GET", path, b"") as response:
            return self._read(response, most)

    def download(self, path: str, offset: int) -> Iterator[bytes]:
        """The bytes at `path` from `offset` on, as they arrive. Raises `Unreachable` or `Answered`."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._send("GET", path, b"", headers=headers) as first:
            if first.status_code not in {301, 302, 303, 307, 308}:
                yield from self._chunks(first, offset)
                return
            address = urljoin(self.base + path, first.headers.get("Location", ""))
        with self._storage(address, headers) as second:
            yield from self._chunks(second, offset)

    def _send(
        self, method: str, path: str, body: bytes, headers: dict[str, str] | None = None, sequence: int | None = None
    ) -> requests.Response:
        created = int(time.time() + self.clock_offset())
        signed = self.identity.sign(method, self.authority, path, "", body, created, sequence)
        sent = {"Accept-Encoding": "identity", "Content-Type": "application/json", **(headers or {}), **signed}
        response = self._request(method, self.base + path, sent, body)
        self._refuse_errors(response)
        return response

    def _storage(self, address: str, headers: dict[str, str]) -> requests.Response:
        url = urlsplit(address)
        if url.scheme != "https" and not (self.may_use_http or url.hostname in LOOPBACK):
            raise Unreachable("The server sent us to a storage without https: refused.")
        response = self._request("GET", address, {"Accept-Encoding": "identity", **headers}, b"")
        if response.status_code not in {200, 206}:
            with response:
                raise Unreachable(f"The storage answered {response.status_code}.", _retry_after(response))
        return response

    def _request(self, method: str, url: str, headers: dict[str, str], body: bytes) -> requests.Response:
        try:
            return self.session.request(
                method,
                url,
                data=body or None,
                headers=headers,
                timeout=self.timeouts,
                stream=True,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise Unreachable(f"{type(error).__name__} for {urlsplit(url).netloc}") from None

    def _refuse_errors(self, response: requests.Response) -> None:
        if response.status_code < 400:
            return
        with response:
            retry_after = _retry_after(response)
            if response.status_code >= 500 or response.status_code in {408, 425, 429}:
                raise Unreachable(f"The server answered {response.status_code}.", retry_after)
            try:
                error = self._object(self._read(response, MAX_ANSWER_SIZE)).get("error")
            except Unreachable:
                error = None
            details = error if isinstance(error, dict) else {}
            code, message = str(details.get("code", "")), str(details.get("message", ""))[:300]
            raise Answered(response.status_code, code, message, details)

    def _chunks(self, response: requests.Response, offset: int) -> Iterator[bytes]:
        """The body; when the server ignored Range, without the first `offset` bytes, which are there already."""
        skip = offset if response.status_code == 200 else 0
        try:
            for chunk in response.iter_content(CHUNK_SIZE):
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                yield chunk[skip:]
                skip = 0
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise Unreachable(f"{type(error).__name__} while bytes arrived") from None

    def _read(self, response: requests.Response, most: int) -> bytes:
        body = bytearray()
        for chunk in self._chunks(response, 0):
            body += chunk
            if len(body) > most:
                raise Unreachable(f"The answer is larger than {most} bytes.")
        return bytes(body)

    def _object(self, body: bytes) -> dict[str, Any]:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise Unreachable("The answer is no JSON.") from None
        if not isinstance(value, dict):
            raise Unreachable("The answer is no JSON object.")
        return value


def _retry_after(response: requests.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return min(float(value), 3600.0) if value.isdigit() else None
