"""Faults of networks, proxies and servers, for `FakeServer.faults`."""

import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from io import BytesIO

from tests.agent.server import Fault, Request


def on(pattern: str, do: Fault, times: int = 10**9) -> Fault:
    """Apply a fault to the first `times` requests whose `METHOD /path` matches."""
    left = [times]
    lock = threading.Lock()

    def fault(request: Request) -> bool:
        if not re.search(pattern, f"{request.method} {request.path}"):
            return False
        with lock:
            if left[0] <= 0:
                return False
            left[0] -= 1
        return do(request)

    return fault


def drop(request: Request) -> bool:
    """Close the connection without an answer."""
    request.drop()
    return True


def reset(request: Request) -> bool:
    """Reset the connection."""
    connection = request.handler.connection
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.drop()
    connection.close()
    return True


def lose_the_answer(request: Request) -> bool:
    """Process the request, and lose the answer."""
    handler = request.handler
    real, handler.wfile = handler.wfile, BytesIO()
    handler.serve(request)
    handler.wfile = real
    request.drop()
    return True


def status(code: int, body: bytes = b"<html>oops</html>", **headers: str) -> Fault:
    def fault(request: Request) -> bool:
        request.answer(code, body, **headers)
        return True

    return fault


def refuse(code: int, word: str, **more: object) -> Fault:
    """Refuse with an error as the control plane formats it."""
    return status(code, json.dumps({"error": {"code": word, "message": "No.", **more}}).encode())


def cut_after(size: int) -> Fault:
    """End a file after `size` bytes, although more were announced."""

    def fault(request: Request) -> bool:
        data = request.handler.fake.handle(request)
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


def change(how: Callable[[bytes], bytes]) -> Fault:
    """Change the bytes of a file."""

    def fault(request: Request) -> bool:
        data = request.handler.fake.handle(request)
        assert isinstance(data, bytes)
        request.answer(200, how(data))
        return True

    return fault


def flip(data: bytes) -> bytes:
    """Flip one bit in the middle."""
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def hang(until: threading.Event) -> Fault:
    """Answer nothing until the test sets `until`."""

    def fault(request: Request) -> bool:
        until.wait(60)
        request.drop()
        return True

    return fault
