"""Programs that tests use and a machine may lack: a skip with advice on a laptop, a failure where CI is set."""

import os
import shutil

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
