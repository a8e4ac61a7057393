"""A complete control plane as in production: a separate database, gunicorn, and the scheduler.

Use it by importing the fixture into a `conftest.py`: `from tests.live import live`, named in `__all__`.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from psycopg import sql

from dev.postgres import APP, free_port
from operations.database.granting import grant
from operations.database.grants import Role

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_SECONDS = 60
# Works with previous releases as well.
PREPARE = """
import io, json, sys, django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0, interactive=False)
tokens = {}
for role in sys.argv[1:]:
    out = io.StringIO()
    call_command("create_operator", "operator", "--password-stdin", "--token", role, "--json", stdout=out)
    tokens[role] = json.loads(out.getvalue())["token"]
json.dump(tokens, sys.stdout)
"""
ROLES = ("viewer", "operator", "publisher", "admin")


@dataclass
class Live:
    """One running control plane. `tokens` has an API token for each role.

    `directory` contains its storage and logs, `code` the source code of the release that runs.
    """

    directory: Path
    environment: dict[str, str]
    port: int
    tokens: dict[str, str] = field(default_factory=dict)
    password: str = field(default_factory=lambda: secrets.token_hex(12))
    workers: int = 2
    code: Path = ROOT
    web: subprocess.Popen[bytes] | None = None
    scheduler: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """The API token with the role admin."""
        return self.tokens["admin"]

    def call(self, method: str, path: str, body: object = None, role: str = "admin") -> requests.Response:
        """Send a request with an API token. `path` starts after `/api/v1`."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}"}
        return requests.request(method, f"{self.url}/api/v1{path}", json=body, headers=headers, timeout=30)

    def group(self, name: str = "lab", interval_seconds: int = 1) -> str:
        """Create the group if it does not exist. Return its name."""
        created = self.call("POST", "/groups", {"name": name, "interval_seconds": interval_seconds})
        assert created.status_code in {201, 400, 409}, created.text
        return name

    def enrolment_token(self, group: str = "lab", uses: int = 1000, accepts_at_once: bool = True) -> str:
        """Create an enrolment token. Return its secret string."""
        body = {
            "name": f"for {group}", "group": self.group(group), "uses_allowed": uses,
            "expires_in_seconds": 3600, "accepts_at_once": accepts_at_once,
        }  # fmt: skip
        created = self.call("POST", "/enrolment-tokens", body)
        assert created.status_code == 201, created.text
        token: str = created.json()["token"]
        return token

    def prepare(self) -> None:
        """Migrate as `kernex_app`. Create an operator and one API token per role."""
        command = [sys.executable, "-c", PREPARE, *ROLES]
        created = subprocess.run(
            command,
            input=self.password,
            env=self.environment,
            cwd=self.code,
            capture_output=True,
            text=True,
            check=False,
        )
        assert created.returncode == 0, created.stderr[-2000:]
        self.tokens = json.loads(created.stdout)

    def start_web(self) -> None:
        command = [
            sys.executable, "-m", "gunicorn", "kernex.wsgi", "--bind", f"127.0.0.1:{self.port}", "--preload",
            "--config", str(self.code / "gunicorn.conf.py"), "--workers", str(self.workers), "--threads", "4",
            "--no-control-socket", "--graceful-timeout", "5", "--http-parser", "auto",
        ]  # fmt: skip
        # `tests.traffic` sends heartbeats as fast as it can.
        self.environment = {"HEARTBEAT_LIMIT_SECONDS": "0", **self.environment}
        self.web = self._start(command, "web.log")
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            with suppress(requests.ConnectionError):
                requests.get(f"{self.url}/api/v1/status", timeout=5)
                return
            assert self.web.poll() is None, self.log("web.log")
            time.sleep(0.1)
        raise AssertionError(f"gunicorn did not respond: {self.log('web.log')}")

    def start_scheduler(self) -> None:
        self.scheduler = self._start([sys.executable, "manage.py", "run_scheduler"], "scheduler.log")

    def start(self) -> None:
        self.start_web()
        self.start_scheduler()

    def kill_web(self) -> None:
        """Kill gunicorn and its workers, as a power cut does."""
        _kill(self.web)

    def stop_scheduler(self) -> None:
        _stop(self.scheduler)

    def stop(self) -> None:
        _stop(self.scheduler)
        _stop(self.web)

    def log(self, name: str) -> str:
        return (self.directory / name).read_text(errors="replace")[-3000:]

    def _start(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.directory / log).open("ab") as file:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                env=self.environment, cwd=self.code, start_new_session=True,
            )  # fmt: skip


def _stop(process: subprocess.Popen[bytes] | None) -> None:
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        _kill(process)


def _kill(process: subprocess.Popen[bytes] | None) -> None:
    if process is None:
        return
    with suppress(ProcessLookupError):
        # The process was started in a new session, so its group contains only itself and its children.
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def own_database(*, is_migrated: bool = False) -> Iterator[str]:
    """Create a separate database with its grants. Yield its URL for `kernex_app`, and drop it afterwards.

    The database is empty, or a copy of `migrated_template` if it `is_migrated`.
    """
    name = f"live_{secrets.token_hex(6)}"
    template = migrated_template() if is_migrated else "template1"
    with psycopg.connect(os.environ["KERNEX_TEST_ADMIN_URL"], autocommit=True) as admin:
        _create(admin, name, template)
    try:
        yield _app_url(name)
    finally:
        with psycopg.connect(os.environ["KERNEX_TEST_ADMIN_URL"], autocommit=True) as admin:
            _drop(admin, name)


@cache
def migrated_template() -> str:
    """Return the name of a migrated database, created once per worker. Copying it is faster than migrating."""
    name = f"live_template_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    with psycopg.connect(os.environ["KERNEX_TEST_ADMIN_URL"], autocommit=True) as admin:
        _drop(admin, name)
        _create(admin, name, "template1")
    migrated = subprocess.run(
        [sys.executable, "manage.py", "migrate", "--no-input", "--verbosity", "0"],
        env={**os.environ, "DATABASE_URL": _app_url(name)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert migrated.returncode == 0, migrated.stderr[-2000:]
    return name


def _app_url(database: str) -> str:
    return os.environ["DATABASE_URL"].rsplit("/", 1)[0] + f"/{database}"


def _create(admin: psycopg.Connection[Any], name: str, template: str) -> None:
    """Create a database, and grant `kernex_app` what a template does not pass on."""
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    admin.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    url = os.environ["KERNEX_TEST_ADMIN_URL"].rsplit("/", 1)[0] + f"/{name}"
    with psycopg.connect(url, autocommit=True) as connection:
        assert grant(connection, Role(APP, "", name), str) == []


def _drop(admin: psycopg.Connection[Any], name: str) -> None:
    """Drop a database. Retry while the superuser's autovacuum uses it, which the admin may not terminate."""
    for tries_left in reversed(range(60)):
        try:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        except psycopg.errors.InsufficientPrivilege:
            if not tries_left:
                raise
            time.sleep(0.5)
        else:
            return


@contextmanager
def running(directory: Path, code: Path | str = ROOT, **settings: Any) -> Iterator[Live]:
    """Run a control plane with its data in `directory`. `settings` are further environment variables."""
    # A previous release migrates its database itself.
    with own_database(is_migrated=Path(code) == ROOT) as url:
        port = free_port()
        environment = {
            "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "DJANGO_SETTINGS_MODULE": "kernex.settings",
            "SECRET_KEY": secrets.token_hex(32), "DATABASE_URL": url, "STORAGE_DIR": str(directory / "storage"),
            "PUBLIC_URL": f"http://127.0.0.1:{port}", **{name: str(value) for name, value in settings.items()},
        }  # fmt: skip
        server = Live(directory, environment, port, code=Path(code))
        server.prepare()
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One control plane for all tests of a worker. Each test uses its own names for bundles, groups and devices."""
    with running(tmp_path_factory.mktemp("live")) as server:
        yield server
