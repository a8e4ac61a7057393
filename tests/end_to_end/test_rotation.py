"""Secrets are rotated while the system is in use, as docs/operations.md describes."""

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import requests
from psycopg import sql

from dev.postgres import Postgres, free_port
from tests.live import Live
from tests.machine import Machine
from tests.operations.databases import Database, manage
from tests.traffic import Traffic, wait_for_responses


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("rotation") / "postgres", durable=False) as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Database:
    database = Database(postgres).make()
    assert database.grant().code == 0
    return database


@pytest.fixture
def live(database: Database, tmp_path: Path) -> Iterator[Live]:
    port = free_port()
    environment = database.environment(
        DATABASE_POOL="4", PUBLIC_URL=f"http://127.0.0.1:{port}", STORAGE_DIR=str(tmp_path / "storage"),
        METRICS_TOKEN="the-first-token-for-scrapers",
    )  # fmt: skip
    live = Live(tmp_path, environment, port, workers=1)
    live.prepare()
    try:
        live.start_web()
        yield live
    finally:
        live.stop()


def restart(live: Live, **changes: str) -> None:
    live.stop()
    live.environment |= changes
    live.start_web()


def sign_in(live: Live) -> requests.Session:
    """Sign in to the admin. Return the session."""
    browser = requests.Session()
    page = browser.get(f"{live.url}/admin/login/", timeout=30).text
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token is not None
    form = {"username": "operator", "password": live.password, "csrfmiddlewaretoken": token[1], "next": "/admin/"}
    assert browser.post(f"{live.url}/admin/login/", form, headers={"Referer": live.url}, timeout=30).ok
    assert is_signed_in(live, browser)
    return browser


def is_signed_in(live: Live, browser: requests.Session) -> bool:
    return browser.get(f"{live.url}/admin/", allow_redirects=False, timeout=30).status_code == 200


def test_a_new_secret_key_keeps_sessions_while_the_old_one_is_a_fallback(live: Live, tmp_path: Path) -> None:
    live.environment["STATIC_ROOT"] = str(tmp_path / "static")
    collected = manage(live.environment, "collectstatic", "--no-input", "--verbosity=0")
    assert collected.code == 0, collected.err
    restart(live)
    browser, machine = sign_in(live), Machine(live).register(live.enrolment_token())
    old_key = live.environment["SECRET_KEY"]
    restart(live, SECRET_KEY=secrets.token_hex(32), SECRET_KEY_FALLBACKS=old_key)
    assert is_signed_in(live, browser)
    assert machine.heartbeat()["state"] == "accepted"
    assert live.call("GET", "/devices").ok
    restart(live, SECRET_KEY_FALLBACKS="")
    assert is_signed_in(live, browser)
    restart(live, SECRET_KEY=secrets.token_hex(32))  # without a fallback, as after a theft
    assert not is_signed_in(live, browser)
    assert machine.heartbeat()["state"] == "accepted"


def test_a_new_password_of_the_role_loses_no_request(live: Live, database: Database) -> None:
    """Open connections keep working. A process that needs a new one before its restart responds with 503."""
    machines = [Machine(live).register(live.enrolment_token()) for _ in range(2)]
    password = secrets.token_hex(12)
    with Traffic(*[machine.beat for machine in machines]) as traffic:
        wait_for_responses(traffic)
        with psycopg.connect(database.admin_url, autocommit=True) as admin:
            admin.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(database.role), sql.Literal(password))
            )
        wait_for_responses(traffic)
    assert traffic.lost == []
    restart(live, DATABASE_URL=database.url.replace(database.password, password))
    assert [machine.heartbeat()["state"] for machine in machines] == ["accepted"] * 2


def test_only_the_new_metrics_token_is_accepted(live: Live) -> None:
    def scrape(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "203.0.113.7"}
        return requests.get(f"{live.url}/metrics", headers=headers, timeout=30).status_code

    old, new = live.environment["METRICS_TOKEN"], "the-second-token-for-scrapers"
    assert (scrape(old), scrape(new)) == (200, 401)
    restart(live, METRICS_TOKEN=new)
    assert (scrape(old), scrape(new)) == (401, 200)
