"""Faults of networks, proxies and servers for `FakeServer.faults`. A fault returns True if it handled the request."""

import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from io import BytesIO

from tests.agent.server import Fault, Request


def on(pattern: str, fault: Fault, times: int = 10**9) -> Fault:
    """Apply a fault to the first `times` requests whose `METHOD /path` matches."""
    remaining = [times]
    lock = threading.Lock()

    def limited_fault(request: Request) -> bool:
        if not re.search(pattern, f"{request.method} {request.path}"):
            return False
        with lock:
            if remaining[0] <= 0:
                return False
            remaining[0] -= 1
        return fault(request)

    return limited_fault


def drop(request: Request) -> bool:
    """Close the connection without a response."""
    request.drop()
    return True


def reset(request: Request) -> bool:
    """Reset the connection."""
    connection = request.handler.connection
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.drop()
    connection.close()
    return True


def lose_response(request: Request) -> bool:
    """Process the request, but do not send the response."""
    handler = request.handler
    real, handler.wfile = handler.wfile, BytesIO()
    handler.serve(request)
    handler.wfile = real
    request.drop()
    return True


def status(code: int, body: bytes = b"<html>oops</html>", **headers: str) -> Fault:
    def fault(request: Request) -> bool:
        request.respond(code, body, **headers)
        return True

    return fault


def refuse(status_code: int, code: str, **details: object) -> Fault:
    """Refuse the request with an error in the format of the control plane."""
    return status(status_code, json.dumps({"error": {"code": code, "message": "No.", **details}}).encode())


def cut_after(size: int) -> Fault:
    """Close the connection after `size` bytes of a file, although the headers declare more."""

    def fault(request: Request) -> bool:
        data = request.handler.control_plane.handle(request)
        assert isinstance(data, bytes)
        match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        handler = request.handler
        handler.send_response(206 if match else 200)
        if match:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        handler.wfile.write(data[start : start + size])
        request.drop()
        return True

    return fault


def change(transform: Callable[[bytes], bytes]) -> Fault:
    """Change the bytes of a file."""

    def fault(request: Request) -> bool:
        data = request.handler.control_plane.handle(request)
        assert isinstance(data, bytes)
        request.respond(200, transform(data))
        return True

    return fault


def flip(data: bytes) -> bytes:
    """Flip one bit in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def hang(released: threading.Event) -> Fault:
    """Send no response until the test sets `released`."""

    def fault(request: Request) -> bool:
        released.wait(60)
        request.drop()
        return True

    return fault
