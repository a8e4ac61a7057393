"""/metrics: who may read it, what it counts, and that all workers answer as one."""

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
from tests.operations.places import Place, manage

TOKEN = "a-token-for-scrapers-alone"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Samples:
    """Every sample by its name and labels."""
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((f"kernex_{name}", frozenset(labels.items())))


@pytest.fixture(autouse=True)
def recount(settings: Settings) -> None:
    """No figures of the test before."""
    settings.METRICS_TOKEN = TOKEN
    FLEET.counted_at = float("-inf")


def scrape(client: Client) -> Samples:
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain; version=")
    return read(answer.content.decode())


# -- Who may read


@pytest.mark.django_db
def test_who_may_read(client: Client) -> None:
    def status(authorization: str = "", **headers: str) -> int:
        given = {"Authorization": authorization} if authorization else {}
        return client.get("/metrics", headers={**given, **headers}, REMOTE_ADDR="198.51.100.7").status_code

    token = make_token(make_user(), "viewer")
    assert status(f"Bearer {TOKEN}") == 200
    assert status(f"bearer {TOKEN}") == 200
    assert status(f"Bearer {token}") == 200
    assert [status(word) for word in ("", f"Bearer {TOKEN}x", "Bearer", f"Basic {TOKEN}", TOKEN)] == [401] * 5
    assert status(**{"X-Forwarded-For": "127.0.0.1"}) == 401
    for row in ApiToken.objects.all():
        row.revoke("operator:alice")
    assert status(f"Bearer {token}") == 401


@pytest.mark.django_db
def test_without_a_token_of_its_own_nothing_opens_it(client: Client, settings: Settings) -> None:
    settings.METRICS_TOKEN = ""
    for word in ("Bearer ", "Bearer  ", "Bearer x"):
        answer = client.get("/metrics", headers={"Authorization": word}, REMOTE_ADDR="198.51.100.7")
        assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="kernex"')


@pytest.mark.django_db
def test_a_process_of_this_machine_may_read_unless_it_speaks_for_others(client: Client, settings: Settings) -> None:
    assert client.get("/metrics", REMOTE_ADDR="127.0.0.1").status_code == 200
    assert client.get("/metrics", REMOTE_ADDR="::1").status_code == 200
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        assert client.get("/metrics", headers={header: "127.0.0.1"}, REMOTE_ADDR="127.0.0.1").status_code == 401
    settings.TRUSTED_PROXY = True
    assert client.get("/metrics", REMOTE_ADDR="127.0.0.1").status_code == 401


# -- What it tells


@pytest.mark.django_db
def test_no_label_grows_with_what_clients_send(client: Client) -> None:
    """Else one client fills the memory of all workers, and names and ids leak to whoever may scrape."""
    device = make_device(name="s3cret-device")
    for path in (f"/s3cret-{secrets.token_hex(4)}", f"/api/v1/devices/{device.pk}", "/api/v1/groups/s3cret-group"):
        client.get(path, headers={"Authorization": "Bearer kxa_s3cret-token"})
    client.generic("S3CRET-METHOD", "/health/live")
    text = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).content.decode()
    assert "s3cret" not in text.lower()
    assert str(device.pk) not in text
    samples = read(text)
    assert value(samples, "requests_total", method="GET", route="none", status="404")
    assert value(samples, "requests_total", method="other", route="health/live", status="405")
    seen = 'kernex_request_seconds_count{method="GET",route="api/v1/devices/<uuid:device_id>"}'
    assert seen in text


@pytest.mark.django_db
def test_heartbeats_are_counted_by_outcome(client: Client) -> None:
    def outcomes() -> dict[str, float]:
        names = ("taken", "unproven", "refused", "sequence_used", "malformed")
        samples = scrape(client)
        return {name: value(samples, "heartbeats_total", outcome=name) or 0 for name in names}

    device, stranger, gone = SigningDevice(client), SigningDevice(client), SigningDevice(client)
    device.id = stranger.id = make_device(public_key=device.public_key).pk
    gone.id = make_device(public_key=gone.public_key, state="decommissioned").pk
    before = outcomes()
    answers = [
        device.heartbeat(), device.heartbeat(), device.heartbeat(1), stranger.heartbeat(), gone.heartbeat(),
        device.heartbeat(body=b"{"),
    ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [200, 200, 409, 401, 403, 400]
    after = outcomes()
    counted = {name: after[name] - before[name] for name in after}
    assert counted == {"taken": 2, "unproven": 1, "refused": 1, "sequence_used": 1, "malformed": 1}


@pytest.mark.django_db(transaction=True)
def test_the_fleet_is_counted(client: Client) -> None:
    for state in ("accepted", "accepted", "pending", "decommissioned"):
        make_device(state=state)
    way = make_device_deployment("waiting")
    Command.objects.queue(way.device_id, deploy_payload(), device_deployment_id=way.pk, attempt=1)
    lock = Lock()
    assert lock.take()
    samples = scrape(client)
    lock.release()
    states = ("online", "offline", "pending", "decommissioned")
    assert [value(samples, "devices", state=state) for state in states] == [0, 3, 1, 1]
    names = ("commands_open", "deployments_running", "scheduler_running", "database_up")
    assert [value(samples, name) for name in names] == [1, 1, 1, 1]
    FLEET.counted_at = float("-inf")
    assert value(scrape(client), "scheduler_running") == 0


@pytest.mark.django_db(transaction=True)
def test_what_failed_within_the_last_hour_is_counted(client: Client) -> None:
    now = timezone.now()
    for state, minutes in (("failed", 1), ("timed_out", 59), ("rolled_back", 61), ("succeeded", 1)):
        way = make_device_deployment("waiting")
        DeviceDeployment.objects.filter(pk=way.pk).update(state=state, finished_at=now - timedelta(minutes=minutes))
    assert value(scrape(client), "device_deployments_failed") == 2


@pytest.mark.django_db(transaction=True)
def test_the_age_of_the_last_backup_is_infinite_until_there_is_one(client: Client) -> None:
    record_event("backup.other", "", actor="manage.py")
    assert value(scrape(client), "backup_age_seconds") == float("inf")
    for days in (3, 1, 2):
        made = record_event(BACKUP_MADE, "", actor="manage.py")
        Event.objects.filter(pk=made.pk).update(at=timezone.now() - timedelta(days=days))
    FLEET.counted_at = float("-inf")
    assert value(scrape(client), "backup_age_seconds") == pytest.approx(86_400, abs=60)


@pytest.mark.django_db(transaction=True)
def test_the_fleet_is_not_counted_again_at_once(client: Client) -> None:
    assert value(scrape(client), "devices", state="pending") == 0
    make_device(state="pending")
    assert value(scrape(client), "devices", state="pending") == 0
    FLEET.counted_at = float("-inf")
    assert value(scrape(client), "devices", state="pending") == 1


@pytest.mark.django_db(transaction=True)
def test_without_a_database_the_rest_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    samples = scrape(client)
    assert value(samples, "database_up") == 0
    assert value(samples, "devices", state="pending") is None
    assert [name for name, _ in samples if name == "kernex_requests_total"]
    # Whether an API token is good, only the database knows.
    assert client.get("/metrics", headers={"Authorization": "Bearer kxa_x"}).status_code == 503


# -- As deployed: two workers behind a proxy that ends TLS


@pytest.fixture
def deployed(new_place: Place, tmp_path: Path) -> Iterator[Live]:
    assert new_place.grant().code == 0
    environment = new_place.environment(
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


def ask(live: Live, path: str, **headers: str) -> requests.Response:
    return requests.get(live.url + path, headers=headers, timeout=30, allow_redirects=False)


def lives(live: Live) -> float | None:
    answer = ask(live, "/metrics", Authorization=f"Bearer {TOKEN}")
    assert answer.status_code == 200
    return value(read(answer.text), "requests_total", method="GET", route="health/live", status="200")


def children(live: Live) -> set[int]:
    assert live.web is not None
    return {int(word) for word in Path(f"/proc/{live.web.pid}/task/{live.web.pid}/children").read_text().split()}


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def is_replaced(live: Live, victim: int) -> bool:
    now = children(live)
    return victim not in now and len(now) == 2


def is_gone(path: Path) -> bool:
    return not path.exists()


def test_workers_answer_as_one_also_for_those_that_died(deployed: Live, tmp_path: Path) -> None:
    for _ in range(20):
        assert ask(deployed, "/health/live").status_code == 200
    (figures,) = tmp_path.glob("kernex-metrics-*")
    # Both worked, and each answers for both.
    assert len(list(figures.glob("counter_*.db"))) == 2
    assert {lives(deployed) for _ in range(10)} == {20}
    for number in (signal.SIGKILL, signal.SIGTERM):
        victim = min(children(deployed))
        os.kill(victim, number)
        wait_for(partial(is_replaced, deployed, victim))
        wait_for(partial(is_gone, figures / f"counter_{victim}.db"))
        assert {lives(deployed) for _ in range(10)} == {20}
    assert ask(deployed, "/health/live").status_code == 200
    assert lives(deployed) == 21
    deployed.stop()
    assert not figures.exists()


def test_scrapers_and_load_balancers_need_no_name_and_no_tls(deployed: Live) -> None:
    """They know an address inside the private network. Everybody else is sent to https."""
    assert ask(deployed, "/health").status_code == 200
    assert ask(deployed, "/health/live").status_code == 200
    assert ask(deployed, "/metrics").status_code == 401
    assert lives(deployed) == 1
    proxied = {"Host": "fleet.example.com", "X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.7"}
    assert ask(deployed, "/metrics", **proxied).status_code == 401
    assert ask(deployed, "/health", **proxied).headers["Strict-Transport-Security"].startswith("max-age=31536000")
    plain = ask(deployed, "/admin/login/", Host="fleet.example.com")
    assert (plain.status_code, plain.headers["Location"]) == (301, "https://fleet.example.com/admin/login/")
