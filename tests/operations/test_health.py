"""/health: ok, degraded, or failing with its fix; never slow, and without details of the database."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from django.db import connection
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

from deployments.models import Hold
from dev.postgres import free_port
from foundation.scheduler import Lock
from kernex import __version__
from tests.live import Live
from tests.operations.databases import Database

# Connecting may take three seconds. The rest allows for a machine that is busy with other tests.
LIMIT_SECONDS = 6


@contextmanager
def database_port(port: int) -> Iterator[None]:
    """Connect to the database at another port."""
    original_port = connection.settings_dict["PORT"]
    connection.close()
    connection.settings_dict["PORT"] = str(port)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["PORT"] = original_port


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never sends a byte."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


@pytest.fixture(autouse=True)
def scheduler(request: pytest.FixtureRequest) -> Iterator[Lock | None]:
    """Hold the scheduler's lock in each test that uses the database."""
    if request.node.get_closest_marker("django_db") is None:
        yield None
        return
    request.getfixturevalue("django_db_setup")
    with request.getfixturevalue("django_db_blocker").unblock():
        lock = Lock()
        assert lock.acquire()
        yield lock
        lock.release()


def problem(client: Client, status: int) -> dict[str, Any]:
    """Return the only problem of the response."""
    response = client.get("/health")
    assert response.status_code == status
    document = response.json()
    assert document["status"] == {200: "degraded", 503: "failing"}[status]
    assert response.has_header("Retry-After") == (status == 503)
    (only_problem,) = document["problems"]
    assert isinstance(only_problem, dict)
    return only_problem


@pytest.mark.django_db
def test_a_working_installation_is_ok(client: Client) -> None:
    response = client.get("/health")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "version": __version__, "problems": []}
    assert "no-store" in response["Cache-Control"]


@pytest.mark.django_db
def test_it_costs_four_queries(client: Client, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    client.get("/health")
    with django_assert_num_queries(4):
        client.get("/health")


@pytest.mark.django_db(transaction=True)
def test_an_unreachable_database_fails(client: Client) -> None:
    with database_port(1):
        assert problem(client, 503) == {
            "part": "database",
            "problem": "The database cannot be used: nothing answers at the host and port of DATABASE_URL.",
            "fix": "Check DATABASE_URL and the server.",
        }
    assert client.get("/health").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_hanging_database_fails_in_time(client: Client, silent_port: int) -> None:
    started_at = time.monotonic()
    with database_port(silent_port):
        reported = problem(client, 503)
    assert reported["problem"] == "The database cannot be used: it did not answer in time."
    assert time.monotonic() - started_at < LIMIT_SECONDS


@pytest.mark.django_db
def test_an_unapplied_migration_fails(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'tokens' AND name LIKE '0001%'")
    assert problem(client, 503) == {
        "part": "migrations",
        "problem": "One migration is not applied.",
        "fix": "python manage.py migrate",
    }


@pytest.mark.django_db
@pytest.mark.parametrize("right", ["INSERT ON devices_device", "SELECT ON django_migrations"])
def test_a_missing_privilege_fails(right: str, client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"REVOKE {right} FROM current_user")
    assert problem(client, 503) == {
        "part": "grants",
        "problem": "The database role lacks rights on one table.",
        "fix": "python manage.py grant_perms",
    }


@pytest.mark.django_db
def test_missing_storage_is_degraded(client: Client, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    storage = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path / "a file"}}
    settings.STORAGES = settings.STORAGES | {"default": storage}
    assert problem(client, 200) == {
        "part": "storage",
        "problem": "Bundle storage cannot be used: uploads and downloads wait.",
        "fix": "Check STORAGE_DIR.",
    }


@pytest.mark.django_db
def test_a_missing_scheduler_is_degraded(client: Client, scheduler: Lock) -> None:
    scheduler.release()
    assert problem(client, 200) == {
        "part": "scheduler",
        "problem": "No scheduler is running: deployments, uploads and deadlines wait.",
        "fix": "python manage.py run_scheduler",
    }


@pytest.mark.django_db
def test_held_deployments_are_degraded(client: Client) -> None:
    Hold.begin("restored", actor="test")
    reported = problem(client, 200)
    assert (reported["part"], reported["fix"]) == ("deployments", "python manage.py release_deployments")


def test_live_uses_no_database(client: Client) -> None:
    """Without the `django_db` mark, pytest-django refuses every query."""
    response = client.get("/health/live")
    assert (response.status_code, response.json()["status"]) == (200, "ok")


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/health", "/health/live"])
def test_a_load_balancer_may_use_an_ip_address(client: Client, path: str, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["fleet.example.com"]
    settings.SECURE_SSL_REDIRECT = True
    assert client.get(path, headers={"Host": "10.0.0.7:8000"}).status_code == 200
    assert client.head(path, headers={"Host": "10.0.0.7:8000"}).status_code == 200
    assert client.post(path, headers={"Host": "10.0.0.7:8000"}).status_code == 405


def test_details_of_the_database_are_not_shown(newest_database: Database, tmp_path: Path, silent_port: int) -> None:
    """With a pool, as in production. The web server starts although the database is unreachable."""
    unreachable_url = f"postgresql://s3cret-role:s3cret-word@127.0.0.1:{silent_port}/s3cret-name"
    live = Live(
        tmp_path, newest_database.environment(DATABASE_URL=unreachable_url, DATABASE_POOL="4"), port=free_port()
    )
    try:
        live.start_web()
        started_at = time.monotonic()
        response = requests.get(f"{live.url}/health", timeout=60)
        elapsed = time.monotonic() - started_at
    finally:
        live.stop()
    assert (response.status_code, response.json()["problems"][0]["part"]) == (503, "database")
    assert elapsed < LIMIT_SECONDS
    assert "s3cret" not in response.text
    assert "s3cret-word" not in live.log("web.log")
