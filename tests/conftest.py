"""Real services for all tests: one PostgreSQL per run and one database per worker, used as `kernex_app`."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import django
import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from psycopg import sql
from pytest_django import DjangoDbBlocker

from dev.postgres import APP, DATABASE, Postgres
from operations.database.granting import grant
from operations.database.grants import Role

# A run writes only under this directory and pytest's own. It is deleted when the run ends.
SCRATCH = Path(tempfile.mkdtemp(prefix="kernex-tests-"))


def start() -> Postgres | None:
    """Start PostgreSQL before Django reads its settings; xdist's workers inherit the URLs."""
    server = None
    os.environ.setdefault("SECRET_KEY", secrets.token_hex(32))
    os.environ.setdefault("DATABASE_POOL", "0")
    if "KERNEX_TEST_ADMIN_URL" not in os.environ:
        os.environ.setdefault("STORAGE_DIR", str(SCRATCH / "storage"))
        os.environ.setdefault("STATIC_ROOT", str(SCRATCH / "static"))
        (SCRATCH / "static").mkdir()  # whitenoise warns about a missing directory
        server = Postgres(SCRATCH / "postgres", durable=False).start()
        with psycopg.connect(server.admin_url, autocommit=True) as admin:
            assert grant(admin, Role(APP, server.passwords.app, DATABASE), str) == []
        os.environ["KERNEX_TEST_ADMIN_URL"] = server.admin_url
        os.environ["DATABASE_URL"] = server.app_url
    os.environ["DJANGO_SETTINGS_MODULE"] = "kernex.settings"
    django.setup()
    # Unhashed names of static files: hashed ones exist only after collectstatic.
    settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    return server


# Runs while pytest imports this file, because the conftest files of the apps import models.
SERVER = start()


def pytest_unconfigure(config: pytest.Config) -> None:
    if SERVER is not None:
        SERVER.stop()
    shutil.rmtree(SCRATCH, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_setup(request: pytest.FixtureRequest, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Create this worker's database and its grants as the admin, and migrate it as `kernex_app`."""
    name = "test_" + getattr(request.config, "workerinput", {}).get("workerid", "main")
    with psycopg.connect(os.environ["KERNEX_TEST_ADMIN_URL"], autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = os.environ["KERNEX_TEST_ADMIN_URL"].rsplit("/", 1)[0] + f"/{name}"
    with psycopg.connect(url, autocommit=True) as admin:
        assert grant(admin, Role(APP, "", name), str) == []
    connection.settings_dict["NAME"] = name
    connection.close()
    with django_db_blocker.unblock():
        call_command("migrate", verbosity=0, interactive=False)
    yield
    with django_db_blocker.unblock():
        connection.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield the mount point of a file system of 100 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    directory = tmp_path / "small"
    directory.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "none", directory], check=False).returncode:
        pytest.skip("this machine cannot mount a file system")
    yield directory
    subprocess.run(["umount", directory], check=True)
