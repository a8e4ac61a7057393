"""Makes a virtual environment with pinned requirements. Standard library only: it runs before anything is installed.

    python3 dev/bootstrap.py ENVIRONMENT REQUIREMENTS [REQUIREMENTS …]

An environment whose requirements did not change is left alone. Ends with one sentence that says what to do when this
machine lacks something.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Kernex needs Python 3.11 or newer; this is {}.{}. Install it and say which: make run PYTHON=python3.12".format(
            *sys.version_info[:2]
        )
    )

import errno
import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

STAMP = "kernex-requirements"
DISK_NEEDED = 600 * 1024 * 1024
NO_VENV = "This Python has no venv module: on Debian, `apt install python3-venv`, then run this again."
DISK_FULL = "The disk is full: free about 600 MB and run this again."


class CannotSetUp(Exception):
    """The message is one sentence that says what to do."""


def fingerprint(requirements: list[str]) -> str:
    """Changes with the content of any requirements file and with the Python that runs this."""
    content = b"".join(Path(path).read_bytes() for path in requirements)
    return hashlib.sha256(content + sys.version.encode()).hexdigest()


def make_environment(place: Path, requirements: list[str]) -> bool:
    """Bring the environment at `place` in line with the requirements files; True if something was installed."""
    wanted = fingerprint(requirements)
    stamp = place / STAMP
    if stamp.exists() and stamp.read_text() == wanted:
        return False
    if shutil.disk_usage(place.absolute().parent).free < DISK_NEEDED:
        raise CannotSetUp("The disk is too full for the Python packages: free about 600 MB and run this again.")
    if not (place / "bin" / "python").exists() or not _works(place):
        _make_venv(place)
    _install(place, requirements)
    stamp.write_text(wanted)
    return True


def _works(place: Path) -> bool:
    check = subprocess.run([str(place / "bin" / "python"), "-m", "pip", "--version"], capture_output=True, check=False)
    return check.returncode == 0


def _make_venv(place: Path) -> None:
    if shutil.which("pip") is None and not _has("ensurepip"):
        raise CannotSetUp(NO_VENV)
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(place)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        told = (made.stdout + made.stderr).strip()
        if "ensurepip" in told or "No module named venv" in told:
            raise CannotSetUp(NO_VENV)
        raise CannotSetUp(f"The virtual environment {place} cannot be made: {told[-300:]}")


def _has(module: str) -> bool:
    return subprocess.run([sys.executable, "-c", "import " + module], capture_output=True, check=False).returncode == 0


def _install(place: Path, requirements: list[str]) -> None:
    total = sum(line[:1].isalnum() for path in requirements for line in Path(path).read_text().splitlines())
    command = [
        str(place / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--require-hashes",
        "--no-input",
        "--disable-pip-version-check",
    ]
    for path in requirements:
        command += ["-r", str(path)]
    started = time.time()
    installer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    done = 0
    tail: list[str] = []
    for line in installer.stdout or ():
        tail = [*tail[-20:], line.rstrip()]
        done += line.startswith("Collecting")
        _progress(min(done, total), total, line.startswith("Installing collected"))
    if installer.wait():
        _end_line()
        told = "\n".join(tail)
        if "No space left" in told:
            raise CannotSetUp(DISK_FULL)
        raise CannotSetUp("pip could not install the requirements (is the package index reachable?):\n" + told[-1500:])
    _end_line()
    print(f"  installed {total} packages in {place} ({time.time() - started:.0f} s)")


def _progress(done: int, total: int, is_last: bool) -> None:
    if not sys.stdout.isatty():
        return
    width = 30
    full = width * done // max(total, 1)
    what = "installing" if is_last else "fetching packages"
    sys.stdout.write("\r  [{}{}] {}/{} {}\033[K".format("#" * full, "." * (width - full), done, total, what))
    sys.stdout.flush()


def _end_line() -> None:
    if sys.stdout.isatty():
        sys.stdout.write("\r\033[K")


def main() -> None:
    place, requirements = Path(sys.argv[1]), sys.argv[2:]
    try:
        if not (place / STAMP).exists():
            print(f"Kernex sets up its Python environment {place} (once, about a minute).")
        make_environment(place, requirements)
    except CannotSetUp as error:
        sys.exit(f"\n{error}")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            sys.exit(DISK_FULL)
        sys.exit(f"{place} cannot be written ({os.strerror(error.errno or 0)}): run this where you may write.")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
