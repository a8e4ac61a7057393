"""Create a virtual environment with pinned requirements, using only the standard library.

    python3 dev/bootstrap.py ENVIRONMENT REQUIREMENTS [REQUIREMENTS …]

If the requirements did not change, it does nothing. If this machine lacks something, it exits with one sentence that
says what to do.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Kernex needs Python 3.11 or newer; this is {}.{}. Install it and run: make run PYTHON=python3.12".format(
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
    """The environment cannot be created. The message says what to do."""


def fingerprint(requirements: list[str]) -> str:
    """Return a digest of the files' content and of the Python version."""
    content = b"".join(Path(path).read_bytes() for path in requirements)
    return hashlib.sha256(content + sys.version.encode()).hexdigest()


def create_environment(environment: Path, requirements: list[str]) -> bool:
    """Install the requirements files into an environment. Return True if something was installed.

    Raises:
        CannotSetUp: The disk is too full, Python has no venv module, or pip failed.
    """
    digest = fingerprint(requirements)
    stamp = environment / STAMP
    if stamp.exists() and stamp.read_text() == digest:
        return False
    if shutil.disk_usage(environment.absolute().parent).free < DISK_NEEDED:
        raise CannotSetUp("The disk is too full for the Python packages: free about 600 MB and run this again.")
    if not (environment / "bin" / "python").exists() or not _has_working_pip(environment):
        _create_venv(environment)
    _install(environment, requirements)
    stamp.write_text(digest)
    return True


def _has_working_pip(environment: Path) -> bool:
    completed = subprocess.run(
        [str(environment / "bin" / "python"), "-m", "pip", "--version"], capture_output=True, check=False
    )
    return completed.returncode == 0


def _create_venv(environment: Path) -> None:
    if shutil.which("pip") is None and not _has("ensurepip"):
        raise CannotSetUp(NO_VENV)
    completed = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(environment)], capture_output=True, text=True, check=False
    )
    if completed.returncode:
        output = (completed.stdout + completed.stderr).strip()
        if "ensurepip" in output or "No module named venv" in output:
            raise CannotSetUp(NO_VENV)
        raise CannotSetUp(f"The virtual environment {environment} cannot be created: {output[-300:]}")


def _has(module: str) -> bool:
    return subprocess.run([sys.executable, "-c", "import " + module], capture_output=True, check=False).returncode == 0


def _install(environment: Path, requirements: list[str]) -> None:
    total = sum(line[:1].isalnum() for path in requirements for line in Path(path).read_text().splitlines())
    command = [
        str(environment / "bin" / "python"),
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
    collected = 0
    tail: list[str] = []
    for line in installer.stdout or ():
        tail = [*tail[-20:], line.rstrip()]
        collected += line.startswith("Collecting")
        _show_progress(min(collected, total), total, line.startswith("Installing collected"))
    if installer.wait():
        _end_line()
        output = "\n".join(tail)
        if "No space left" in output:
            raise CannotSetUp(DISK_FULL)
        raise CannotSetUp(
            "pip could not install the requirements (is the package index reachable?):\n" + output[-1500:]
        )
    _end_line()
    print(f"  installed {total} packages in {environment} ({time.time() - started:.0f} s)")


def _show_progress(count: int, total: int, is_installing: bool) -> None:
    if not sys.stdout.isatty():
        return
    width = 30
    full = width * count // max(total, 1)
    activity = "installing" if is_installing else "downloading packages"
    sys.stdout.write("\r  [{}{}] {}/{} {}\033[K".format("#" * full, "." * (width - full), count, total, activity))
    sys.stdout.flush()


def _end_line() -> None:
    if sys.stdout.isatty():
        sys.stdout.write("\r\033[K")


def main() -> None:
    environment, requirements = Path(sys.argv[1]), sys.argv[2:]
    try:
        if not (environment / STAMP).exists():
            print(f"Creating the Python environment {environment} (once, takes about a minute).")
        create_environment(environment, requirements)
    except CannotSetUp as error:
        sys.exit(f"\n{error}")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            sys.exit(DISK_FULL)
        reason = os.strerror(error.errno or 0)
        sys.exit(f"{environment} cannot be written ({reason}): run this in a directory where you may write.")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
