"""nginx with deploy/nginx.conf, in front of web servers that deploy/entry starts."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import requests

from dev.postgres import free_port
from tests.live import ROOT, Live
from tests.tools import need

TIMEOUT_SECONDS = 90


def wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def responds(port: int) -> bool:
    with suppress(requests.ConnectionError, requests.Timeout):
        return requests.get(f"http://127.0.0.1:{port}/health/live", timeout=5).ok
    return False


class Nginx:
    """nginx without TLS at `port`. Everything else is as in deploy/nginx.conf."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.path = directory / "nginx.conf"
        self.process: subprocess.Popen[bytes] | None = None

    def point_at(self, *ports: int) -> None:
        """Write the configuration for these web servers. nginx reads it when it starts or reloads."""
        text = (ROOT / "deploy" / "nginx.conf").read_text()
        lines = [line for line in text.splitlines() if not line.strip().startswith(("ssl_", "resolver "))]
        servers = " ".join(f"server 127.0.0.1:{port};" for port in ports)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = " ".join(f"{kind}_temp_path {self.directory}/{kind};" for kind in kinds)
        replacements = {
            "http {": f"{'user root;' if os.geteuid() == 0 else ''}\nhttp {{ {paths} upstream web {{ {servers} }}",
            "set $web web:8000;": "set $web web;",
            "listen 443 ssl;": f"listen 127.0.0.1:{self.port};",
            "listen 80;": f"listen unix:{self.directory}/plain;",
            "listen 9000 ssl;": f"listen unix:{self.directory}/storage;",
            "pid /run/nginx.pid;": f"pid {self.directory}/nginx.pid;",
            "error_log /dev/stderr warn;": f"error_log {self.directory}/nginx.log warn;",
        }
        text = "\n".join(lines)
        for before, after in replacements.items():
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        self.path.write_text(text)

    def command(self, *arguments: str) -> list[str]:
        return [need("nginx"), "-e", f"{self.directory}/nginx.log", "-c", str(self.path), *arguments]

    def start(self) -> None:
        self.process = subprocess.Popen(self.command("-g", "daemon off;"), start_new_session=True)
        wait(lambda: responds(self.port))

    def workers(self) -> set[str]:
        assert self.process is not None
        return set(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())

    def reload(self) -> None:
        """Load the configuration, and wait until no worker uses the old one."""
        before = self.workers()
        subprocess.run(self.command("-s", "reload"), check=True)
        wait(lambda: bool(self.workers()) and not before & self.workers())

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)


@contextmanager
def nginx(directory: Path, port: int, *behind: int) -> Iterator[Nginx]:
    proxy = Nginx(directory, port)
    proxy.point_at(*behind)
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.stop()


@contextmanager
def web(live: Live, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the web server as the image does, at `port`."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**live.environment, "PATH": path, "BIND": f"127.0.0.1:{port}"}
    with (live.directory / f"web-{port}.log").open("ab") as log:
        process = subprocess.Popen(
            [ROOT / "deploy" / "entry", "web"], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait(lambda: responds(port) or process.poll() is not None)
        assert process.poll() is None, (live.directory / f"web-{port}.log").read_text()[-3000:]
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(40)


class Slow:
    """A client that has sent only half of its body."""

    body = b'{"name": "' + b"x" * 1000 + b'"}'
    half = 100

    def __init__(self, port: int, token: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        head = (
            f"POST /api/v1/groups HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Length: {len(self.body)}\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
        )
        self.socket.sendall(head.encode() + self.body[: self.half])

    def is_connected(self) -> bool:
        self.socket.setblocking(False)
        try:
            return self.socket.recv(1, socket.MSG_PEEK) == b"impossible"
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(60)

    def finish(self) -> str:
        """Send the rest. Return the first line of the response."""
        with self.socket, self.socket.makefile("rb") as response:
            self.socket.sendall(self.body[self.half :])
            return response.readline().decode().strip()


def ports(count: int) -> list[int]:
    free: set[int] = set()
    while len(free) < count:
        free.add(free_port())
    return sorted(free)
