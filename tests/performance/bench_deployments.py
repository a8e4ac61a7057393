"""Measure how fast deployments are started, planned, taken through phases, rolled back and cancelled.

    python -m tests.performance.bench_deployments [--devices 50000]

It starts PostgreSQL with fsync, adds accepted devices to one group, and deploys a bundle to it. The requests go through
Django's test client, and the scheduler's tasks run in this process.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
import psycopg

from dev.postgres import Postgres
from tests.devices.own_server import own_server

ADD_DEVICES = """
INSERT INTO devices_device ({columns}, id, public_key)
SELECT {columns}, gen_random_uuid(), md5(number::text)
FROM devices_device, generate_series(2, %s) AS number
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--devices", type=int, default=50_000, help="number of devices in the group (default %(default)s)"
    )
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="kernex-bench-") as directory,
        own_server(Path(directory), durable=True) as (postgres, live),
    ):
        os.environ |= live.environment | {"DATABASE_POOL": "0", "ALLOWED_HOSTS": "testserver"}
        django.setup()
        measure(postgres, options.devices)


def measure(postgres: Postgres, devices: int) -> None:
    """Print how long the requests take, and how many devices per second the scheduler handles."""
    # Django has to be set up before its models are imported.
    from django.utils import timezone

    from deployments.offers import offer
    from deployments.phases.advance import advance
    from deployments.planning import plan
    from deployments.termination import carry_out_cancels, finish
    from tests.factories import make_bundle, make_device, make_token, make_user

    make_bundle("vad@1.0.0")
    device = make_device(last_heartbeat_at=timezone.now())
    add_devices(postgres, device, devices)
    authorization = {"authorization": f"Bearer {make_token(make_user(), 'operator')}"}
    started = request("/api/v1/deployments", {"bundle": "vad@1.0.0", "groups": ["lab"]}, authorization)
    run_task("baseline: insert as many rows", lambda: insert_rows(postgres, devices), devices)
    run_task("plan", plan, devices)
    request(f"/api/v1/deployments/{started['id']}/cancel", {}, authorization)
    run_task("cancel", carry_out_cancels, devices)
    run_task("finish", finish, 1)
    phases = [{"percent": 1}, {"percent": 50}, {}]
    request("/api/v1/deployments", {"bundle": "vad@1.0.0", "groups": ["lab"], "phases": phases}, authorization)
    run_task("plan with three phases", plan, devices)
    run_task("admit the first phase", advance, 1)
    run_task("offer the first phase", offer, devices // 100)
    run_task("a tick without changes", lambda: advance() or 1, 1)


def add_devices(postgres: Postgres, template: Any, count: int) -> None:
    fields = template._meta.concrete_fields
    columns = ", ".join(field.column for field in fields if field.column not in {"id", "public_key"})
    with psycopg.connect(postgres.app_url, autocommit=True) as database:
        database.execute(ADD_DEVICES.format(columns=columns).encode(), [count])
        database.execute("VACUUM ANALYZE devices_device")


def insert_rows(postgres: Postgres, count: int) -> int:
    """Insert rows of the size of a device deployment into a table without indexes."""
    with psycopg.connect(postgres.app_url, autocommit=True) as database:
        database.execute("CREATE TEMPORARY TABLE plain (id uuid PRIMARY KEY, device uuid, state text, data jsonb)")
        database.execute(
            "INSERT INTO plain SELECT gen_random_uuid(), gen_random_uuid(), 'waiting', '{}'"
            " FROM generate_series(1, %s)",
            [count],
        )
    return count


def request(path: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
    """Send one request, print how long it took, and return the response body."""
    from django.test import Client

    started_at = time.monotonic()
    response = Client().post(path, body, content_type="application/json", headers=headers)
    name = "start, request" if path.endswith("deployments") else "cancel, request"
    print(f"{name:32} {1000 * (time.monotonic() - started_at):8.0f} ms")
    assert response.status_code in {200, 201}, response.content
    result: dict[str, Any] = response.json()
    return result


def run_task(name: str, task: Callable[[], int], expected: int) -> None:
    """Run one task of the scheduler until it has handled `expected` devices, and print its rate."""
    started_at, handled, longest = time.monotonic(), 0, 0.0
    while handled < expected:
        run_started_at = time.monotonic()
        handled += task()
        longest = max(longest, time.monotonic() - run_started_at)
    seconds = time.monotonic() - started_at
    print(f"{name:32} {seconds:8.1f} s  {handled / seconds:10.0f} per second, longest run {longest:.1f} s")


if __name__ == "__main__":
    main()
