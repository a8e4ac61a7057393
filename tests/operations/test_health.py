"""/health: fit for work, degraded, or failing with what mends it; never slow, never talkative."""

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
from tests.operations.places import Place

# Connecting may take three seconds; the rest is for a machine that is busy with other tests.
LIMIT_SECONDS = 6


@contextmanager
def at(port: int) -> Iterator[None]:
    """Look for the database elsewhere."""
    usual = connection.settings_dict["PORT"]
    connection.close()
    connection.settings_dict["PORT"] = str(port)
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["PORT"] = usual


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Where somebody takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


@pytest.fixture(autouse=True)
def scheduler(request: pytest.FixtureRequest) -> Iterator[Lock | None]:
    """One is at work wherever a test has a database."""
    if request.node.get_closest_marker("django_db") is None:
        yield None
        return
    request.getfixturevalue("django_db_setup")
    with request.getfixturevalue("django_db_blocker").unblock():
        lock = Lock()
        assert lock.take()
        yield lock
        lock.release()


def problem(client: Client, status: int) -> dict[str, Any]:
    """The one problem that is told."""
    answer = client.get("/health")
    assert answer.status_code == status
    said = answer.json()
    assert said["status"] == {200: "degraded", 503: "failing"}[status]
    assert answer.has_header("Retry-After") == (status == 503)
    (found,) = said["problems"]
    assert isinstance(found, dict)
    return found


@pytest.mark.django_db
def test_all_is_well(client: Client) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "version": __version__, "problems": []}
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.django_db
def test_it_asks_four_questions(client: Client, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    client.get("/health")
    with django_assert_num_queries(4):
        client.get("/health")


@pytest.mark.django_db(transaction=True)
def test_the_database_is_away(client: Client) -> None:
    with at(1):
        assert problem(client, 503) == {
            "part": "database",
            "problem": "The database cannot be used: nothing answers at the host and port of DATABASE_URL.",
            "mend": "Check DATABASE_URL and the server.",
        }
    assert client.get("/health").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_database_that_hangs_is_not_waited_for(client: Client, silent_port: int) -> None:
    began = time.monotonic()
    with at(silent_port):
        told = problem(client, 503)
    assert told["problem"] == "The database cannot be used: it did not answer in time."
    assert time.monotonic() - began < LIMIT_SECONDS


@pytest.mark.django_db
def test_a_migration_is_not_applied(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'tokens' AND name LIKE '0001%'")
    assert problem(client, 503) == {
        "part": "migrations",
        "problem": "One migration is not applied.",
        "mend": "python manage.py migrate",
    }


@pytest.mark.django_db
@pytest.mark.parametrize("right", ["INSERT ON devices_device", "SELECT ON django_migrations"])
def test_a_right_is_missing(right: str, client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"REVOKE {right} FROM current_user")
    assert problem(client, 503) == {
        "part": "grants",
        "problem": "The database role lacks rights on one table.",
        "mend": "python manage.py grant_perms",
    }


@pytest.mark.django_db
def test_without_storage_heartbeats_go_on(client: Client, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    storage = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path / "a file"}}
    settings.STORAGES = settings.STORAGES | {"default": storage}
    assert problem(client, 200) == {
        "part": "storage",
        "problem": "Bundle storage cannot be used: uploads and downloads wait.",
        "mend": "Check STORAGE_DIR.",
    }


@pytest.mark.django_db
def test_no_scheduler_runs(client: Client, scheduler: Lock) -> None:
    scheduler.release()
    assert problem(client, 200) == {
        "part": "scheduler",
        "problem": "No scheduler is running: deployments, uploads and deadlines wait.",
        "mend": "python manage.py run_scheduler",
    }


@pytest.mark.django_db
def test_deployments_are_held(client: Client) -> None:
    Hold.begin("restored", actor="test")
    told = problem(client, 200)
    assert (told["part"], told["mend"]) == ("deployments", "python manage.py release_deployments")


def test_live_asks_nobody(client: Client) -> None:
    """Without a database: pytest-django refuses every question to it here."""
    answer = client.get("/health/live")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/health", "/health/live"])
def test_a_load_balancer_may_ask_by_address(client: Client, path: str, settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["fleet.example.com"]
    settings.SECURE_SSL_REDIRECT = True
    assert client.get(path, headers={"Host": "10.0.0.7:8000"}).status_code == 200
    assert client.head(path, headers={"Host": "10.0.0.7:8000"}).status_code == 200
    assert client.post(path, headers={"Host": "10.0.0.7:8000"}).status_code == 405


def test_nothing_is_told_about_the_database(new_place: Place, tmp_path: Path, silent_port: int) -> None:
    """As in production, with a pool; a database that is away does not keep the web server from starting."""
    away = f"postgresql://s3cret-role:s3cret-word@127.0.0.1:{silent_port}/s3cret-name"
    live = Live(tmp_path, new_place.environment(DATABASE_URL=away, DATABASE_POOL="4"), port=free_port())
    try:
        live.start_web()
        began = time.monotonic()
        answer = requests.get(f"{live.url}/health", timeout=60)
        took = time.monotonic() - began
    finally:
        live.stop()
    assert (answer.status_code, answer.json()["problems"][0]["part"]) == (503, "database")
    assert took < LIMIT_SECONDS
    assert "s3cret" not in answer.text
    assert "s3cret-word" not in live.log("web.log")
