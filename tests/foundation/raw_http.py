"""HTTP requests as raw bytes, including malformed ones."""

import json
import socket
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any


@dataclass(frozen=True)
class RawResponse:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error object. Fails if the response has another form."""
        assert self.headers["content-type"] == "application/json", self
        document = json.loads(self.body)
        assert list(document) == ["error"], document
        error: dict[str, Any] = document["error"]
        assert isinstance(error["code"], str), error
        assert isinstance(error["message"], str), error
        return error


def send(port: int, request: bytes, *, method: str = "POST", end: bool = False) -> RawResponse:
    """Send these bytes and read one response. With `end`, close the sending side afterwards."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        if end:
            connection.shutdown(socket.SHUT_WR)
        response = HTTPResponse(connection, method=method)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return RawResponse(response.status, headers, response.read())


def request(
    method: str,
    target: str,
    body: bytes = b"",
    *,
    token: str | None = None,
    host: str | None = "127.0.0.1",
    **headers: str | None,
) -> bytes:
    """Return the bytes of one request. A header that is None is omitted; `_` in names stands for `-`."""
    lines: dict[str, str | None] = {"host": host, "connection": "close"}
    if body:
        lines |= {"content-type": "application/json", "content-length": str(len(body))}
    if token:
        lines["authorization"] = f"Bearer {token}"
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body
