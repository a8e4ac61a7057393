"""Measure signed heartbeats per second and CPU time per heartbeat, compared with a bare Django view.

    python -m tests.performance.bench_heartbeat [--heartbeats 8000] [--devices 400] [--connections 8]

It starts PostgreSQL with fsync, and gunicorn as in production (2 workers with 4 threads each). All requests are signed
in advance, and the two views are measured alternately. The client shares the CPU, so only the ratios can be compared
between machines. It runs only on Linux, because CPU times come from /proc.
"""

import argparse
import json
import os
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from nacl.signing import SigningKey

from dev.postgres import Postgres
from tests.devices.own_server import own_server
from tests.devices.signing import heartbeat_body, key_text, sign
from tests.live import Live

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
ROUNDS = 3
INSERT_DEVICES = """
INSERT INTO devices_device (
    id, public_key, state, name, group_id, tags, registered_at, device_type, hardware, attributes, attributes_version,
    agent_version, status, metrics, running_bundles, sequence, heartbeat_sha256, boot_id, previous_boot_id,
    boot_alternations, reported_health, noted_health
)
SELECT device_id, public_key, 'accepted', '', %s, '{}', now(), 'edge', '{}', '{}', 0,
       '', '', '{}', '{}', 0, '', '', '', 0, 'healthy', 'healthy'
FROM unnest(%s::uuid[], %s::text[]) AS enrolled (device_id, public_key)
"""
INSERT_GROUP = """
INSERT INTO devices_group (id, name, description, interval_seconds, created_at) VALUES (%s, 'bench', '', 60, now())
"""
GUNICORN = [
    sys.executable, "-m", "gunicorn", "kernex.wsgi", "--workers", "2", "--threads", "4", "--preload",
    "--no-control-socket", "--keep-alive", "30",
]  # fmt: skip


@dataclass
class Device:
    id: UUID
    key: SigningKey
    sequence: int = 0


@dataclass(frozen=True)
class Figures:
    """The cost of one view: requests per second, and CPU seconds per request of the web server and of PostgreSQL."""

    rate: float
    web: float
    database: float

    @property
    def total(self) -> float:
        return self.web + self.database


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--heartbeats", type=int, default=8_000, help="number of measured heartbeats (default %(default)s)"
    )
    parser.add_argument(
        "--devices", type=int, default=400, help="number of devices that send them (default %(default)s)"
    )
    parser.add_argument("--connections", type=int, default=8, help="concurrent connections (default %(default)s)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="kernex-bench-") as directory,
        own_server(Path(directory), durable=True, HEARTBEAT_LIMIT_SECONDS="0") as (postgres, live),
    ):
        start_web(live)
        devices = create_devices(postgres, options.devices)
        show(*measure(postgres, live, devices, options.heartbeats, options.connections))


def start_web(live: Live) -> None:
    live.environment["DJANGO_SETTINGS_MODULE"] = "tests.performance.bare_view_settings"
    live.web = live._start([*GUNICORN, "--bind", f"127.0.0.1:{live.port}"], "web.log")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", live.port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"gunicorn did not start: {live.log('web.log')}")


def create_devices(postgres: Postgres, count: int) -> list[Device]:
    devices = [Device(uuid4(), SigningKey.generate()) for _ in range(count)]
    group, keys = uuid4(), [key_text(device.key) for device in devices]
    with psycopg.connect(postgres.app_url, autocommit=True) as connection:
        connection.execute(INSERT_GROUP, [group])
        connection.execute(INSERT_DEVICES, [group, [device.id for device in devices], keys])
    return devices


def measure(
    postgres: Postgres, live: Live, devices: list[Device], count: int, connections: int
) -> tuple[Figures, Figures]:
    """Return the figures of the heartbeat and of the bare view, each averaged over several rounds."""
    assert postgres.process is not None
    assert live.web is not None
    port, processes, share = live.port, (live.web.pid, postgres.process.pid), count // ROUNDS
    run(port, processes, bare_requests(port, 500), connections)
    run(port, processes, heartbeats(port, devices, 2 * len(devices)), connections)
    signed, bare = [], []
    for _ in range(ROUNDS):
        signed.append(run(port, processes, heartbeats(port, devices, share), connections))
        bare.append(run(port, processes, bare_requests(port, share), connections))
    return mean(signed), mean(bare)


def mean(rounds: list[Figures]) -> Figures:
    def average(values: list[float]) -> float:
        return sum(values) / len(values)

    return Figures(
        average([figures.rate for figures in rounds]),
        average([figures.web for figures in rounds]),
        average([figures.database for figures in rounds]),
    )


def request(port: int, path: str, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def heartbeats(port: int, devices: list[Device], count: int) -> list[bytes]:
    """Return signed requests of the devices in rotation."""
    signed_requests = []
    for number in range(count):
        device = devices[number % len(devices)]
        device.sequence += 1
        path = f"/api/v1/devices/{device.id}/heartbeat"
        body = json.dumps(heartbeat_body(metrics={"cpu_percent": number % 100, "memory": 2**30})).encode()
        headers = sign(device.key, "POST", f"127.0.0.1:{port}", path, body, sequence=device.sequence)
        signed_requests.append(request(port, path, headers, body))
    return signed_requests


def bare_requests(port: int, count: int) -> list[bytes]:
    return [request(port, "/bare", {}, json.dumps(heartbeat_body()).encode())] * count


def run(port: int, processes: tuple[int, int], requests: list[bytes], connections: int) -> Figures:
    """Send all requests over `connections` connections. Each waits for a response before it sends the next request.

    A device's requests stay in order on one connection if the number of devices is a multiple of `connections`.
    """
    shares = [requests[first::connections] for first in range(connections)]
    successes: list[int] = []
    threads = [threading.Thread(target=send, args=(port, share, successes)) for share in shares]
    before, start = [cpu_seconds(pid) for pid in processes], time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    if sum(successes) != len(requests):
        raise SystemExit(f"Only {sum(successes)} of {len(requests)} requests succeeded.")
    spent = [cpu_seconds(pid) - earlier for pid, earlier in zip(processes, before, strict=True)]
    return Figures(len(requests) / elapsed, spent[0] / len(requests), spent[1] / len(requests))


def send(port: int, requests: list[bytes], successes: list[int]) -> None:
    """Send requests one by one until a response is not 200. Append the number of successes to `successes`."""
    count = 0
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for raw in requests:
            connection.sendall(raw)
            if not receive(connection).startswith(b"HTTP/1.1 200 "):
                break
            count += 1
    successes.append(count)


def receive(connection: socket.socket) -> bytes:
    """Read one response with a Content-Length. Return its status line and headers."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            return b""
        received += part
    headers, _, body = received.partition(b"\r\n\r\n")
    length = int(headers.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
    while len(body) < length:
        body += connection.recv(65536)
    return headers


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and its descendants so far, including those that have exited."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:  # it has just exited, and its parent includes its time
        return 0
    own = sum(int(ticks) for ticks in fields[11:15]) * TICK_SECONDS
    return own + sum(cpu_seconds(int(child)) for child in children)


def show(signed: Figures, bare: Figures) -> None:
    def line(name: str, *values: Any) -> None:
        sys.stdout.write(f"{name:<20}" + "".join(f"{value:>16}" for value in values) + "\n")

    line("", "requests/s", "CPU ms/request", "web ms", "PostgreSQL ms")
    for name, figures in (("signed heartbeat", signed), ("bare Django view", bare)):
        parts = (figures.total, figures.web, figures.database)
        line(name, f"{figures.rate:,.0f}", *(f"{1000 * part:.3f}" for part in parts))
    line("ratio", f"{signed.rate / bare.rate:.2f}", f"{signed.total / bare.total:.2f}", f"{signed.web / bare.web:.2f}")


if __name__ == "__main__":
    main()
