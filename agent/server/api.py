"""The device API, in the words of docs/device-api.md: what this device asks, and how answers are read."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from agent.config import Config
from agent.errors import Refused, TryLater
from agent.server.clock import Clock
from agent.server.identity import Identity
from agent.server.signing import SignedRequest
from agent.server.transport import REDIRECTS, Stream, Transport, retry_after_seconds

MAX_ANSWER_SIZE = 4 * 1024 * 1024
MAX_ERROR_SIZE = 64 * 1024
ERROR_SECONDS = 30.0
API = "/api/v1"
_CODE = re.compile(r"[a-z0-9_]{1,64}")


class ControlPlane:
    """The server as one thread sees it."""

    def __init__(self, config: Config, identity: Identity, clock: Clock) -> None:
        self.config = config
        self.identity = identity
        self.clock = clock
        self.transport = Transport(config)

    def register(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", "/devices/register", body)

    def attributes(self, device_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("PUT", f"/devices/{device_id}/attributes", body)

    def report(self, deployment_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", f"/deployments/{deployment_id}/result", body)

    def sign_heartbeat(self, device_id: str, body: Mapping[str, Any], sequence: int) -> SignedRequest:
        """A heartbeat that can be sent, and sent again after a network error."""
        return self._sign("POST", f"/devices/{device_id}/heartbeat", _encode(body), sequence)

    def send(self, request: SignedRequest) -> dict[str, Any]:
        """The JSON object of an answer. Raises `Refused` or `TryLater`."""
        headers = request.headers | ({"Content-Type": "application/json"} if request.body else {})
        answer = self.transport.ask(request.method, request.url, headers, request.body, MAX_ANSWER_SIZE)
        if not 200 <= answer.status < 300:
            raise self._refusal(answer.status, answer.headers, answer.body)
        value = _decode(answer.body)
        if value is None:
            raise TryLater("The server answers, but not as Kernex does.")
        return value

    def manifest(self, name: str, version: str, sha256: str, limit: int) -> bytes:
        """The bytes of a manifest, at most `limit`. Raises `Refused` or `TryLater`."""
        with self._open(f"/trust/targets/{name}/{sha256}.{version}.json", {}) as stream:
            if stream.status != 200:
                raise TryLater(f"The server answers {stream.status} instead of the manifest.")
            return stream.read(limit, self.config.answer_timeout_seconds)

    @contextmanager
    def blob(self, sha256: str, start: int) -> Iterator[Stream]:
        """The bytes of a blob from `start` on: 200 means from its beginning, 206 from `start`, 416 that there are none.

        Raises `Refused` or `TryLater`.
        """
        headers = {"Range": f"bytes={start}-", "If-Range": f'"{sha256}"'} if start else {}
        with self._open(f"/blobs/{sha256}", headers) as stream:
            if stream.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise TryLater("The server compressed a blob; that was not asked for.")
            yield stream

    @contextmanager
    def _open(self, path: str, headers: Mapping[str, str]) -> Iterator[Stream]:
        for is_last in (False, True):
            request = self._sign("GET", path, b"")
            with self.transport.open("GET", request.url, {**request.headers, **headers}) as stream:
                if stream.status in REDIRECTS:
                    location = stream.headers.get("Location", "")
                    break
                if stream.status in {200, 206, 416}:
                    yield stream
                    return
                refusal = self._refusal(stream.status, stream.headers, stream.read(MAX_ERROR_SIZE, ERROR_SECONDS))
                if is_last or not self._learns(refusal):
                    raise refusal
        # Storage has its own ETags: with If-Range it would begin anew each time. The digest finds another's bytes.
        asked = {name: value for name, value in headers.items() if name == "Range"}
        with self.transport.open_elsewhere(request.url, location, asked) as stream:
            if stream.status == 404:
                raise Refused(404, "not_in_storage", "The storage does not have it.")
            if stream.status not in {200, 206, 416}:
                # 403 too: the address has expired, or storage has another clock. The next try asks for a new one.
                raise TryLater(f"The storage answers {stream.status}.", retry_after_seconds(stream.headers))
            yield stream

    def _call(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        encoded = _encode(body)
        try:
            return self.send(self._sign(method, path, encoded))
        except Refused as refusal:
            if not self._learns(refusal):
                raise
        return self.send(self._sign(method, path, encoded))

    def _learns(self, refusal: Exception) -> bool:
        """Whether the refusal taught us the time, so that asking once more makes sense."""
        return (
            isinstance(refusal, Refused)
            and refusal.code == "clock_skew"
            and self.clock.learn(refusal.error.get("server_time"))
        )

    def _sign(self, method: str, path: str, body: bytes, sequence: int | None = None) -> SignedRequest:
        url = f"{self.config.server.rstrip('/')}{API}{path}"
        return self.identity.sign(method, url, body, created=self.clock.now(), sequence=sequence)

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> Exception:
        """An answer below 500 with a code of ours is a refusal; anything else may come from somebody on the way."""
        error = (_decode(body) or {}).get("error")
        code = error.get("code") if isinstance(error, dict) else None
        if not isinstance(error, dict) or not isinstance(code, str) or not _CODE.fullmatch(code):
            return TryLater(f"The server answers {status}, and not as Kernex does.", retry_after_seconds(headers))
        message = str(error.get("message", ""))[:500]
        if status in {408, 425, 429} or not 400 <= status < 500:
            return TryLater(f"The server answers {status}: {message} ({code})", retry_after_seconds(headers))
        return Refused(status, code, message, error)


def _encode(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii")


def _decode(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
