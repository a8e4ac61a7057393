"""The directory VAR of `make run`, locked by one run. It keeps the secrets that the first run generated."""

import fcntl
import json
import os
import secrets
import shutil
import socket
from pathlib import Path

DISK_NEEDED = 300 * 1024 * 1024


class CannotRun(Exception):
    """`make run` cannot start. The message says what to do, in one sentence."""


class Workspace:
    """VAR and its secrets. Open it before use."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory.absolute()
        self.port = port
        self.secrets: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def password_file(self) -> Path:
        return self.directory / "operator-password"

    def open(self) -> None:
        """Lock the directory and read its secrets.

        Raises:
            CannotRun: The directory is not writable, is in use, is too full, or has lost its secrets.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.lock = (self.directory / "lock").open("w")
        except (OSError, ValueError) as error:
            raise CannotRun(
                f"{self.directory} cannot be written ({error}): choose another directory with `make run VAR=/some/dir`."
            ) from None
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotRun(
                f"Another `make run` uses {self.directory}: stop it, or run `make run PORT=8010 VAR=/other/dir`."
            ) from None
        if shutil.disk_usage(self.directory).free < DISK_NEEDED:
            raise CannotRun(f"The disk of {self.directory} is too full: free about 300 MB, or choose another VAR.")
        self._read_secrets()

    def check_port(self) -> None:
        """Raise `CannotRun` if another program uses the port."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise CannotRun(
                    f"Port {self.port} is in use ({error.strerror}): run `make run PORT={self.port + 10}`."
                ) from None

    def keep(self, name: str, value: str) -> None:
        """Store a secret in the 0600 file."""
        self.secrets[name] = value
        _write_private(self.directory / "secrets.json", json.dumps(self.secrets))

    def write_password(self, password: str) -> None:
        _write_private(self.password_file, f"{password}\n")

    def _read_secrets(self) -> None:
        path = self.directory / "secrets.json"
        if path.exists():
            try:
                self.secrets = {str(name): str(value) for name, value in json.loads(path.read_text()).items()}
            except (OSError, ValueError, AttributeError):
                raise CannotRun(
                    f"{path} is damaged: restore the file, or move {self.directory} aside to start from scratch."
                ) from None
        if "secret_key" not in self.secrets:
            if (self.directory / "postgres").exists():
                raise CannotRun(
                    f"{path} is missing, but there is data: restore it, or move {self.directory} "
                    "aside to start from scratch."
                )
            self.keep("secret_key", secrets.token_urlsafe(48))


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)
