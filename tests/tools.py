"""Find programs that tests use. A missing program skips the test, or fails it if CI is set."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

# The Debian packages of programs whose package has another name.
PACKAGES = {
    "systemd-analyze": "systemd",
    "ceph": "ceph-common",
    "nginx": "nginx-light",
    "promtool": "prometheus",
    "/usr/lib/postgresql/15/bin/postgres": "postgresql-15",
}
# Programs that are not in Debian, PyPI or npm. .ci/run cannot install them and fails without them, like the tests.
ELSEWHERE = {"terraform": "install it from HashiCorp (docs/infrastructure.md)"}


def need(program: str) -> str:
    """Return the path of a program. If it is missing, skip the test, or fail it if CI is set."""
    path = shutil.which(program)
    if path is None:
        unavailable(
            f"{program} is missing: {ELSEWHERE.get(program) or 'apt install ' + PACKAGES.get(program, program)}"
        )
    return path


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it if CI is set, because CI must run every test."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def certificate(directory: Path, name: str) -> Path:
    """Create a self-signed certificate for 127.0.0.1. Its key is next to it, with the suffix `.key`."""
    path = directory / f"{name}.crt"
    command = [
        need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2",
        "-out", str(path), "-keyout", str(path.with_suffix(".key")),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return path
