"""Run PostgreSQL as an unprivileged user: it refuses to run as root.

Where the kernel allows user namespaces, the command runs in one. Outside the namespace, its user is root, so the
data stays in place, even under a home directory that only root can enter. Otherwise, as in many containers, the command
runs as `nobody`, who needs the data and a copy of the programs outside such a directory.
"""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NOBODY = 65534
OUTSIDE = Path("/var/tmp")  # noqa: S108 - survives restarts; the directory in it is created by root and given to nobody


class CannotDropRoot(Exception):
    """This machine has no way to run PostgreSQL as another user. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Unprivileged:
    """How to run commands as another user: the prefix of each command, and the paths of the data and the programs."""

    prefix: list[str]
    data: Path
    binaries: Path


def choose_user(directory: Path, binaries: Path) -> Unprivileged:
    """Choose how to run PostgreSQL with its data in `directory`.

    Raises:
        CannotDropRoot: Neither user namespaces nor setpriv work here, or another user owns the directory for `nobody`.
    """
    data = directory / "data"
    if os.geteuid() != 0:
        return Unprivileged([], data, binaries)
    namespace = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if _works([*namespace, "true"]) and not data.is_symlink():
        return Unprivileged(namespace, data, binaries)
    return _as_nobody(data, binaries)


def _as_nobody(data: Path, binaries: Path) -> Unprivileged:
    prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if not _works([*prefix, "true"]):
        raise CannotDropRoot(
            "PostgreSQL does not run as root, and this machine has neither user namespaces nor setpriv: "
            "run this as an ordinary user."
        )
    home = OUTSIDE / f"kernex-{hashlib.sha256(str(data).encode()).hexdigest()[:16]}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.is_symlink() or home.stat().st_uid not in {0, NOBODY}:
        raise CannotDropRoot(f"{home} belongs to another user: move it aside, or run this as an ordinary user.")
    os.chown(home, NOBODY, NOBODY)
    if not _works([*prefix, str(binaries / "postgres"), "--version"]):
        copy = home / "programs"
        if not (copy / binaries.name / "postgres").exists():
            shutil.copytree(binaries.parent, copy, symlinks=True, dirs_exist_ok=True)
        binaries = copy / binaries.name
    if not data.is_symlink():
        data.symlink_to(home / "data")
    return Unprivileged(prefix, home / "data", binaries)


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
