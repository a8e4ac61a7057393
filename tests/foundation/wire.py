"""Requests byte by byte, as no honest client would send them."""

import json
import socket
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error object; fails if the answer has another shape."""
        assert self.headers["content-type"] == "application/json", self
        said = json.loads(self.body)
        assert list(said) == ["error"], said
        error: dict[str, Any] = said["error"]
        assert isinstance(error["code"], str), error
        assert isinstance(error["message"], str), error
        return error


def send(port: int, request: bytes, *, method: str = "POST", end: bool = False) -> Answer:
    """Send these bytes and read one answer. With `end`, nothing more will come from here."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        if end:
            connection.shutdown(socket.SHUT_WR)
        response = HTTPResponse(connection, method=method)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())


def request(
    method: str,
    target: str,
    body: bytes = b"",
    *,
    token: str | None = None,
    host: str | None = "127.0.0.1",
    **headers: str | None,
) -> bytes:
    """The bytes of one request. A header that is None is left out; `_` in names stands for `-`."""
    lines: dict[str, str | None] = {"host": host, "connection": "close"}
    if body:
        lines |= {"content-type": "application/json", "content-length": str(len(body))}
    if token:
        lines["authorization"] = f"Bearer {token}"
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body
