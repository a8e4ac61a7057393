"""With deploy/nginx.conf, slow clients do not block others, and web servers are replaced without a lost request."""

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import requests

from tests.end_to_end.fleet import agent_process, device_called, wait_for, wait_until_online
from tests.image.proxy import Nginx, Slow, nginx, ports, wait, web
from tests.live import Live, own_database
from tests.tools import need
from tests.traffic import Traffic

SLOW_CLIENTS = 50
DRAIN_SECONDS = 25


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A control plane behind the port of its proxy. The test starts the processes."""
    need("nginx")
    (port,) = ports(1)
    with own_database() as url:
        environment = {
            "PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "kernex.settings", "DATABASE_URL": url,
            "SECRET_KEY": secrets.token_hex(32), "STORAGE_DIR": str(tmp_path / "storage"), "TRUSTED_PROXY": "true",
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
        }  # fmt: skip
        server = Live(tmp_path, environment, port)
        server.prepare()
        yield server


def test_slow_clients_do_not_stop_heartbeats_behind_the_proxy(live: Live, tmp_path: Path) -> None:
    (behind,) = ports(1)
    with web(live, behind), nginx(tmp_path, live.port, behind), agent_process(live, tmp_path):
        wait_until_online(live, tmp_path.name)
        slow = [Slow(live.port, live.token) for _ in range(SLOW_CLIENTS)]
        for _ in range(3):
            before = (device_called(live, tmp_path.name) or {})["last_heartbeat_at"]
            wait_for(lambda: (device_called(live, tmp_path.name) or {})["last_heartbeat_at"] != before)  # noqa: B023
        assert all(client.is_connected() for client in slow)
        # The server can only refuse the name, which is too long, after it has the whole body.
        assert {client.finish() for client in slow} == {"HTTP/1.1 400 Bad Request"}


def test_without_a_proxy_slow_clients_occupy_every_thread(live: Live) -> None:
    """The reason why the documents demand a proxy."""
    (port,) = ports(1)
    with web(live, port), ExitStack() as slow:
        for _ in range(SLOW_CLIENTS):
            slow.enter_context(closing(Slow(port, live.token).socket))
        with pytest.raises(requests.ReadTimeout):
            keep_asking(port)


def keep_asking(port: int) -> None:
    """Send several requests, because the first ones can still find a free thread."""
    for _ in range(SLOW_CLIENTS):
        requests.get(f"http://127.0.0.1:{port}/health/live", timeout=3)


def test_web_servers_are_replaced_one_by_one_without_a_lost_request(live: Live, tmp_path: Path) -> None:
    """As platforms do it: out of the load balancer, SIGTERM, a new server, back into the load balancer."""
    both = ports(2)
    with ExitStack() as stack:
        servers = {port: stack.enter_context(web(live, port)) for port in both}
        proxy = stack.enter_context(nginx(tmp_path, live.port, *both))
        with Traffic(*[lambda: requests.get(f"{live.url}/health", timeout=60)] * 4) as traffic:
            for port in both:
                running = Slow(port, live.token)
                point(proxy, [other for other in both if other != port])
                servers[port].terminate()
                wait(lambda: "Handling signal: term" in (tmp_path / f"web-{port}.log").read_text())  # noqa: B023
                assert running.finish() == "HTTP/1.1 400 Bad Request"
                assert servers[port].wait(DRAIN_SECONDS) == 0
                servers[port] = stack.enter_context(web(live, port))
                point(proxy, both)
            succeeded = traffic.succeeded
            wait(lambda: traffic.succeeded > succeeded + 20)
    assert (traffic.lost, traffic.deferred) == ([], 0)


def point(proxy: Nginx, servers: list[int]) -> None:
    proxy.point_at(*servers)
    proxy.reload()
