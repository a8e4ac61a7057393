"""The client of the device API, which docs/device-api.md defines."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from agent.config import Config
from agent.errors import AgentError, Refused, TryLater
from agent.server.clock import Clock
from agent.server.identity import Identity
from agent.server.signing import SignedRequest, UnsignedRequest
from agent.server.transport import REDIRECTS, Stream, Transport, retry_after_seconds

MAX_ERROR_SIZE = 64 * 1024
ERROR_SECONDS = 30.0
API = "/api/v1"
_CODE = re.compile(r"[a-z0-9_]{1,64}")


class ControlPlane:
    """The client that one thread uses.

    Every method raises `Refused` if the server refused the request, and `TryLater` for temporary failures. A request
    that the server refuses because of the clock is retried once with the server's time.
    """

    def __init__(self, config: Config, identity: Identity, clock: Clock) -> None:
        self.config = config
        self.identity = identity
        self.clock = clock
        self.transport = Transport(config)

    def register(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Register this device's key."""
        return self._call("POST", "/devices/register", body)

    def put_attributes(self, device_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send the attributes of this device."""
        return self._call("PUT", f"/devices/{device_id}/attributes", body)

    def post_report(self, deployment_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one report about a device deployment."""
        return self._call("POST", f"/deployments/{deployment_id}/result", body)

    def post_log_batch(self, device_id: str, request_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one batch of requested logs."""
        return self._call("POST", f"/devices/{device_id}/log-requests/{request_id}/batches", body)

    def sign_heartbeat(self, device_id: str, body: Mapping[str, Any], sequence: int) -> SignedRequest:
        """Return a signed heartbeat for `send`. It may be sent again after a network error."""
        return self._sign("POST", f"/devices/{device_id}/heartbeat", _encode(body), sequence)

    def send(self, request: SignedRequest) -> dict[str, Any]:
        """Send a signed request and return the JSON object of the response."""
        headers = request.headers | ({"Content-Type": "application/json"} if request.body else {})
        response = self.transport.request(request.method, request.url, headers, request.body)
        if not 200 <= response.status < 300:
            raise read_error(response.status, response.headers, response.body)
        value = _decode(response.body)
        if value is None:
            raise TryLater("The response is not a JSON object, so it does not come from Kernex.")
        return value

    def manifest(self, name: str, version: str, sha256: str, limit: int) -> bytes:
        """Return the bytes of a manifest, at most `limit`."""
        with self._open(f"/trust/targets/{name}/{sha256}.{version}.json", {}) as stream:
            if stream.status != 200:
                raise TryLater(f"The server responds with {stream.status} instead of the manifest.")
            return stream.read(limit, self.config.answer_timeout_seconds)

    @contextmanager
    def blob(self, sha256: str, start: int) -> Iterator[Stream]:
        """Request the bytes of a blob from `start` on.

        Status 200 means that the stream begins at the first byte, 206 that it begins at `start`, and 416 that the blob
        has no bytes from `start` on.
        """
        headers = {"Range": f"bytes={start}-", "If-Range": f'"{sha256}"'} if start else {}
        with self._open(f"/blobs/{sha256}", headers) as stream:
            if stream.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise TryLater("The server compressed a blob, although this device did not request compression.")
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
                error = read_error(stream.status, stream.headers, stream.read(MAX_ERROR_SIZE, ERROR_SECONDS))
                if is_last or not self._apply_server_time(error):
                    raise error
        with self._open_storage(request.url, location, headers) as stream:
            yield stream

    @contextmanager
    def _open_storage(self, url: str, location: str, headers: Mapping[str, str]) -> Iterator[Stream]:
        """Follow a redirect to storage.

        Storage has its own ETags, so `If-Range` would make it send all bytes each time. Only `Range` is kept. If the
        bytes are from another file, the digest check fails.
        """
        range_header = {name: value for name, value in headers.items() if name == "Range"}
        with self.transport.open_redirect(url, location, range_header) as stream:
            if stream.status == 404:
                raise Refused(404, "not_in_storage", "The file is missing from storage.")
            if stream.status not in {200, 206, 416}:
                # 403 means that the URL has expired or that the clocks differ. The next attempt gets a new URL.
                raise TryLater(f"The storage responds with {stream.status}.", retry_after_seconds(stream.headers))
            yield stream

    def _call(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        encoded = _encode(body)
        try:
            return self.send(self._sign(method, path, encoded))
        except Refused as refusal:
            if not self._apply_server_time(refusal):
                raise
        return self.send(self._sign(method, path, encoded))

    def _apply_server_time(self, error: AgentError) -> bool:
        """Apply the server's time from a `clock_skew` error. Return whether a retry can succeed."""
        return (
            isinstance(error, Refused)
            and error.code == "clock_skew"
            and self.clock.synchronize(error.details.get("server_time"))
        )

    def _sign(self, method: str, path: str, body: bytes, sequence: int | None = None) -> SignedRequest:
        url = f"{self.config.server.rstrip('/')}{API}{path}"
        return self.identity.sign(UnsignedRequest(method, url, body), created=self.clock.now(), sequence=sequence)


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> AgentError:
    """Return the error that a response describes.

    A 4xx status with an error code of Kernex is a refusal. Any other response is a temporary failure, or comes from a
    proxy or network between this device and the server.
    """
    details = (_decode(body) or {}).get("error")
    code = details.get("code") if isinstance(details, dict) else None
    if not isinstance(details, dict) or not isinstance(code, str) or not _CODE.fullmatch(code):
        return TryLater(
            f"The server responds with {status}, but not with an error from Kernex.", retry_after_seconds(headers)
        )
    message = str(details.get("message", ""))[:500]
    if status in {408, 425, 429} or not 400 <= status < 500:
        return TryLater(f"The server responds with {status}: {message} ({code})", retry_after_seconds(headers))
    return Refused(status, code, message, details)


def _encode(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii")


def _decode(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
