"""Programs that tests use and a machine may lack: a skip with advice on a laptop, a failure where CI is set."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = {
    "chromium": "chromium",
    "systemd-analyze": "systemd",
    "strace": "strace",
    "ceph": "ceph-common",
    "nginx": "nginx-light",
    "promtool": "prometheus",
}
# What Debian does not have.
ELSEWHERE = {"terraform": "docs/infrastructure.md says where it is had"}


def need(program: str) -> str:
    """The path of a program. Skips the test if there is none; fails it under CI, unless Debian does not have it."""
    found = shutil.which(program)
    if found is not None:
        return found
    advice = f"{program} is missing: {ELSEWHERE.get(program) or 'apt install ' + PACKAGES.get(program, program)}"
    if os.environ.get("CI") and program not in ELSEWHERE:
        pytest.fail(advice)
    pytest.skip(advice)


def certificate(directory: Path, name: str) -> Path:
    """A certificate for 127.0.0.1 that signs itself; its key stands beside it as `.key`."""
    made = directory / f"{name}.crt"
    command = [
        need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2",
        "-out", str(made), "-keyout", str(made.with_suffix(".key")),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return made
