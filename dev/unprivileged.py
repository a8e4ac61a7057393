"""PostgreSQL refuses to run as root. As root it is started as somebody who may do nothing else.

Where the kernel allows user namespaces, that is a user who is root's own outside: data stays where it is, also below a
home that nobody else may enter. Elsewhere (in many containers) it is the user `nobody`, who needs data, and a copy of
the programs, outside of such a home.
"""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NOBODY = 65534
OUTSIDE = Path("/var/tmp")  # noqa: S108 - kept across restarts; the directory is made by root and given to nobody


class CannotStepDown(Exception):
    """The message says what to do."""


@dataclass(frozen=True, slots=True)
class Guise:
    """`prefix` stands before each command; `data` and `binaries` are where that user may go."""

    prefix: list[str]
    data: Path
    binaries: Path


def guise(directory: Path, binaries: Path) -> Guise:
    """How to run PostgreSQL whose data belongs to `directory`. Raises `CannotStepDown`."""
    data = directory / "data"
    if os.geteuid() != 0:
        return Guise([], data, binaries)
    namespace = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if _works([*namespace, "true"]) and not data.is_symlink():
        return Guise(namespace, data, binaries)
    return _as_nobody(data, binaries)


def _as_nobody(data: Path, binaries: Path) -> Guise:
    prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if not _works([*prefix, "true"]):
        raise CannotStepDown(
            "PostgreSQL does not run as root, and this machine has neither user namespaces nor setpriv: run as a user."
        )
    home = OUTSIDE / f"kernex-{hashlib.sha256(str(data).encode()).hexdigest()[:16]}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.is_symlink() or home.stat().st_uid not in {0, NOBODY}:
        raise CannotStepDown(f"{home} belongs to somebody else: move it away, or run as a user.")
    os.chown(home, NOBODY, NOBODY)
    if not _works([*prefix, str(binaries / "postgres"), "--version"]):
        copy = home / "programs"
        if not (copy / binaries.name / "postgres").exists():
            shutil.copytree(binaries.parent, copy, symlinks=True, dirs_exist_ok=True)
        binaries = copy / binaries.name
    if not data.is_symlink():
        data.symlink_to(home / "data")
    return Guise(prefix, home / "data", binaries)


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
