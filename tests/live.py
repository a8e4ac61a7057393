"""A control plane as in production, for tests that need the whole of it: own database, gunicorn, scheduler.

Use it by importing the fixture into a `conftest.py`: `from tests.live import live  # noqa: F401`.
"""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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
# Also older releases understand these commands.
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
    """One running control plane. `tokens` holds an API token for each role; `directory` its storage and logs.

    `code` is the release that runs.
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
        """An API token that may do everything."""
        return self.tokens["admin"]

    def call(self, method: str, path: str, body: object = None, role: str = "admin") -> requests.Response:
        """One request with an API token; `path` begins after `/api/v1`."""
        headers = {"Authorization": f"Bearer {self.tokens[role]}"}
        return requests.request(method, f"{self.url}/api/v1{path}", json=body, headers=headers, timeout=30)

    def group(self, name: str = "lab", interval_seconds: int = 1) -> str:
        """The group of that name, made if there is none. Returns the name."""
        made = self.call("POST", "/groups", {"name": name, "interval_seconds": interval_seconds})
        assert made.status_code in {201, 400, 409}, made.text
        return name

    def enrolment_token(self, group: str = "lab", uses: int = 1000, accepts_at_once: bool = True) -> str:
        """The string of a new enrolment token."""
        body = {
            "name": f"for {group}", "group": self.group(group), "uses_allowed": uses,
            "expires_in_seconds": 3600, "accepts_at_once": accepts_at_once,
        }  # fmt: skip
        made = self.call("POST", "/enrolment-tokens", body)
        assert made.status_code == 201, made.text
        token: str = made.json()["token"]
        return token

    def prepare(self) -> None:
        """Migrate as `kernex_app`, make an operator and one API token a role."""
        command = [sys.executable, "-c", PREPARE, *ROLES]
        made = subprocess.run(
            command,
            input=self.password,
            env=self.environment,
            cwd=self.code,
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr[-2000:]
        self.tokens = json.loads(made.stdout)

    def start_web(self) -> None:
        command = [
            sys.executable, "-m", "gunicorn", "kernex.wsgi", "--bind", f"127.0.0.1:{self.port}", "--preload",
            "--config", str(ROOT / "gunicorn.conf.py"), "--workers", str(self.workers), "--threads", "4",
            "--no-control-socket", "--graceful-timeout", "5",
        ]  # fmt: skip
        self.web = self._start(command, "web.log")
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            with suppress(requests.ConnectionError):
                requests.get(f"{self.url}/api/v1/status", timeout=5)
                return
            assert self.web.poll() is None, self.log("web.log")
            time.sleep(0.1)
        raise AssertionError(f"gunicorn did not answer: {self.log('web.log')}")

    def start_scheduler(self) -> None:
        self.scheduler = self._start([sys.executable, "manage.py", "run_scheduler"], "scheduler.log")

    def start(self) -> None:
        self.start_web()
        self.start_scheduler()

    def kill_web(self) -> None:
        """Power off: the master and its workers at once, nothing is finished."""
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
        os.killpg(process.pid, 9)  # the group is the process's own: it was started in a new session
    process.wait()


@contextmanager
def own_database() -> Iterator[str]:
    """A database made and granted by the admin. Yields its address for `kernex_app`."""
    name = f"live_{secrets.token_hex(6)}"
    admin_url = os.environ["KERNEX_TEST_ADMIN_URL"]
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with psycopg.connect(admin_url.rsplit("/", 1)[0] + f"/{name}", autocommit=True) as admin:
        assert grant(admin, Role(APP, "", name), str) == []
    try:
        yield os.environ["DATABASE_URL"].rsplit("/", 1)[0] + f"/{name}"
    finally:
        with psycopg.connect(admin_url, autocommit=True) as admin:
            _drop(admin, name)


def _drop(admin: psycopg.Connection[Any], name: str) -> None:
    """An autovacuum at work in it is the superuser's, and may not be ended: it is waited for."""
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
    """A control plane with its data in `directory`; `settings` become further environment variables."""
    with own_database() as url:
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
    """One control plane for all tests of a worker; tests name their own bundles, groups and devices."""
    with running(tmp_path_factory.mktemp("live")) as server:
        yield server
