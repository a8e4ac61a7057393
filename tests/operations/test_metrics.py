"""/metrics: who may read it, what it counts, and totals over all workers."""

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from django.db import connection
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from deployments.models import DeviceDeployment
from dev.postgres import free_port
from devices.models import Command
from foundation.accounts.models import ApiToken
from foundation.events.models import BACKUP_MADE, Event, record_event
from foundation.scheduler import Lock
from operations.monitoring.metrics import FLEET
from tests.devices.payloads import deploy_payload
from tests.devices.signing import SigningDevice
from tests.factories import make_device, make_device_deployment, make_token, make_user
from tests.live import Live
from tests.operations.databases import Database, manage

TOKEN = "a-token-for-scrapers-alone"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parse_samples(text: str) -> Samples:
    """Return every sample by its name and labels."""
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def sample_value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((f"kernex_{name}", frozenset(labels.items())))


@pytest.fixture(autouse=True)
def fresh_figures(settings: Settings) -> None:
    """Discard the cached figures of the previous test."""
    settings.METRICS_TOKEN = TOKEN
    FLEET.counted_at = float("-inf")


def scrape(client: Client) -> Samples:
    response = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=")
    return parse_samples(response.content.decode())


@pytest.mark.django_db
def test_reading_needs_a_token(client: Client) -> None:
    def status(authorization: str = "", **headers: str) -> int:
        base_headers = {"Authorization": authorization} if authorization else {}
        return client.get("/metrics", headers={**base_headers, **headers}, REMOTE_ADDR="198.51.100.7").status_code

    token = make_token(make_user(), "viewer")
    assert status(f"Bearer {TOKEN}") == 200
    assert status(f"bearer {TOKEN}") == 200
    assert status(f"Bearer {token}") == 200
    assert [status(authorization) for authorization in ("", f"Bearer {TOKEN}x", "Bearer", f"Basic {TOKEN}", TOKEN)] == [
        401
    ] * 5
    assert status(**{"X-Forwarded-For": "127.0.0.1"}) == 401
    for api_token in ApiToken.objects.all():
        api_token.revoke("operator:alice")
    assert status(f"Bearer {token}") == 401


@pytest.mark.django_db
def test_without_a_metrics_token_an_empty_one_is_refused(client: Client, settings: Settings) -> None:
    settings.METRICS_TOKEN = ""
    for authorization in ("Bearer ", "Bearer  ", "Bearer x"):
        response = client.get("/metrics", headers={"Authorization": authorization}, REMOTE_ADDR="198.51.100.7")
        assert (response.status_code, response["WWW-Authenticate"]) == (401, 'Bearer realm="kernex"')


@pytest.mark.django_db
def test_a_local_process_may_read_unless_it_is_a_proxy(client: Client, settings: Settings) -> None:
    assert client.get("/metrics", REMOTE_ADDR="127.0.0.1").status_code == 200
    assert client.get("/metrics", REMOTE_ADDR="::1").status_code == 200
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        assert client.get("/metrics", headers={header: "127.0.0.1"}, REMOTE_ADDR="127.0.0.1").status_code == 401
    settings.TRUSTED_PROXY = True
    assert client.get("/metrics", REMOTE_ADDR="127.0.0.1").status_code == 401


@pytest.mark.django_db
def test_labels_do_not_depend_on_what_clients_send(client: Client) -> None:
    """Otherwise a client could fill the memory of all workers, and names and ids would leak to scrapers."""
    device = make_device(name="s3cret-device")
    for path in (f"/s3cret-{secrets.token_hex(4)}", f"/api/v1/devices/{device.pk}", "/api/v1/groups/s3cret-group"):
        client.get(path, headers={"Authorization": "Bearer kxa_s3cret-token"})
    client.generic("S3CRET-METHOD", "/health/live")
    text = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).content.decode()
    assert "s3cret" not in text.lower()
    assert str(device.pk) not in text
    samples = parse_samples(text)
    assert sample_value(samples, "requests_total", method="GET", route="none", status="404")
    assert sample_value(samples, "requests_total", method="other", route="health/live", status="405")
    expected_line = 'kernex_request_seconds_count{method="GET",route="api/v1/devices/<uuid:device_id>"}'
    assert expected_line in text


@pytest.mark.django_db
def test_heartbeats_are_counted_by_outcome(client: Client) -> None:
    def outcomes() -> dict[str, float]:
        names = ("taken", "unproven", "refused", "sequence_used", "malformed")
        samples = scrape(client)
        return {name: sample_value(samples, "heartbeats_total", outcome=name) or 0 for name in names}

    device, other_key, decommissioned = SigningDevice(client), SigningDevice(client), SigningDevice(client)
    device.id = other_key.id = make_device(public_key=device.public_key).pk
    decommissioned.id = make_device(public_key=decommissioned.public_key, state="decommissioned").pk
    before = outcomes()
    answers = [
        device.heartbeat(), device.heartbeat(), device.heartbeat(1), other_key.heartbeat(), decommissioned.heartbeat(),
        device.heartbeat(body=b"{"),
    ]  # fmt: skip
    assert [response.status_code for response in answers] == [200, 200, 409, 401, 403, 400]
    after = outcomes()
    counted = {name: after[name] - before[name] for name in after}
    assert counted == {"taken": 2, "unproven": 1, "refused": 1, "sequence_used": 1, "malformed": 1}


@pytest.mark.django_db(transaction=True)
def test_the_fleet_is_counted(client: Client) -> None:
    for state in ("accepted", "accepted", "pending", "decommissioned"):
        make_device(state=state)
    device_deployment = make_device_deployment("waiting")
    Command.objects.queue(
        device_deployment.device_id, deploy_payload(), device_deployment_id=device_deployment.pk, attempt=1
    )
    lock = Lock()
    assert lock.acquire()
    samples = scrape(client)
    lock.release()
    states = ("online", "offline", "pending", "decommissioned")
    assert [sample_value(samples, "devices", state=state) for state in states] == [0, 3, 1, 1]
    names = ("commands_open", "deployments_running", "scheduler_running", "database_up")
    assert [sample_value(samples, name) for name in names] == [1, 1, 1, 1]
    FLEET.counted_at = float("-inf")
    assert sample_value(scrape(client), "scheduler_running") == 0


@pytest.mark.django_db(transaction=True)
def test_failures_of_the_last_hour_are_counted(client: Client) -> None:
    now = timezone.now()
    for state, minutes in (("failed", 1), ("timed_out", 59), ("rolled_back", 61), ("succeeded", 1)):
        device_deployment = make_device_deployment("waiting")
        DeviceDeployment.objects.filter(pk=device_deployment.pk).update(
            state=state, finished_at=now - timedelta(minutes=minutes)
        )
    assert sample_value(scrape(client), "device_deployments_failed") == 2


@pytest.mark.django_db(transaction=True)
def test_the_backup_age_is_infinite_without_a_backup(client: Client) -> None:
    record_event("backup.other", "", actor="manage.py")
    assert sample_value(scrape(client), "backup_age_seconds") == float("inf")
    for days in (3, 1, 2):
        event = record_event(BACKUP_MADE, "", actor="manage.py")
        Event.objects.filter(pk=event.pk).update(at=timezone.now() - timedelta(days=days))
    FLEET.counted_at = float("-inf")
    assert sample_value(scrape(client), "backup_age_seconds") == pytest.approx(86_400, abs=60)


@pytest.mark.django_db(transaction=True)
def test_fleet_counts_are_cached(client: Client) -> None:
    assert sample_value(scrape(client), "devices", state="pending") == 0
    make_device(state="pending")
    assert sample_value(scrape(client), "devices", state="pending") == 0
    FLEET.counted_at = float("-inf")
    assert sample_value(scrape(client), "devices", state="pending") == 1


@pytest.mark.django_db(transaction=True)
def test_without_a_database_the_other_metrics_are_served(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    samples = scrape(client)
    assert sample_value(samples, "database_up") == 0
    assert sample_value(samples, "devices", state="pending") is None
    assert [name for name, _ in samples if name == "kernex_requests_total"]
    # An API token cannot be checked without the database.
    assert client.get("/metrics", headers={"Authorization": "Bearer kxa_x"}).status_code == 503


@pytest.fixture
def deployed(newest_database: Database, tmp_path: Path) -> Iterator[Live]:
    assert newest_database.grant().code == 0
    environment = newest_database.environment(
        DATABASE_POOL="4", PUBLIC_URL="https://fleet.example.com", ALLOWED_HOSTS="fleet.example.com",
        TRUSTED_PROXY="true", METRICS_TOKEN=TOKEN, TMPDIR=str(tmp_path),
    )  # fmt: skip
    assert manage(environment, "migrate").code == 0
    live = Live(tmp_path, environment, free_port())
    try:
        live.start_web()
        yield live
    finally:
        live.stop()


def get(live: Live, path: str, **headers: str) -> requests.Response:
    return requests.get(live.url + path, headers=headers, timeout=30, allow_redirects=False)


def count_live_requests(live: Live) -> float | None:
    response = get(live, "/metrics", Authorization=f"Bearer {TOKEN}")
    assert response.status_code == 200
    return sample_value(parse_samples(response.text), "requests_total", method="GET", route="health/live", status="200")


def children(live: Live) -> set[int]:
    assert live.web is not None
    return {int(pid) for pid in Path(f"/proc/{live.web.pid}/task/{live.web.pid}/children").read_text().split()}


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def is_replaced(live: Live, victim: int) -> bool:
    now = children(live)
    return victim not in now and len(now) == 2


def is_gone(path: Path) -> bool:
    return not path.exists()


def test_totals_include_all_workers_and_dead_ones(deployed: Live, tmp_path: Path) -> None:
    for _ in range(20):
        assert get(deployed, "/health/live").status_code == 200
    (figures,) = tmp_path.glob("kernex-metrics-*")
    # Both workers counted, and each returns the total.
    assert len(list(figures.glob("counter_*.db"))) == 2
    assert {count_live_requests(deployed) for _ in range(10)} == {20}
    for number in (signal.SIGKILL, signal.SIGTERM):
        victim = min(children(deployed))
        os.kill(victim, number)
        wait_for(partial(is_replaced, deployed, victim))
        wait_for(partial(is_gone, figures / f"counter_{victim}.db"))
        assert {count_live_requests(deployed) for _ in range(10)} == {20}
    assert get(deployed, "/health/live").status_code == 200
    assert count_live_requests(deployed) == 21
    deployed.stop()
    assert not figures.exists()


def test_scrapers_and_load_balancers_need_no_host_name_or_tls(deployed: Live) -> None:
    """They use an address inside the private network. Other clients are redirected to HTTPS."""
    assert get(deployed, "/health").status_code == 200
    assert get(deployed, "/health/live").status_code == 200
    assert get(deployed, "/metrics").status_code == 401
    assert count_live_requests(deployed) == 1
    proxied = {"Host": "fleet.example.com", "X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.7"}
    assert get(deployed, "/metrics", **proxied).status_code == 401
    assert get(deployed, "/health", **proxied).headers["Strict-Transport-Security"].startswith("max-age=31536000")
    plain = get(deployed, "/admin/login/", Host="fleet.example.com")
    assert (plain.status_code, plain.headers["Location"]) == (301, "https://fleet.example.com/admin/login/")
