"""`make image`: build the images with buildah instead of a Docker engine, on a base of Debian's packages.

It needs root, `buildah` and `debootstrap` (apt install both), and writes only under VAR/image.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIRROR = "http://deb.debian.org/debian"
SUITE = "bookworm"
PYTHON_OF_SUITE = "3.11"
PACKAGES = ["ca-certificates", "python3", "python3-venv"]
BASE = "localhost/kernex-base:latest"
TARGETS = {"control-plane": "localhost/kernex:latest", "agent": "localhost/kernex-agent:latest"}
REQUIREMENTS = ["deploy/build.txt", "deploy/fast.txt", "requirements.txt", "agent/requirements.txt"]
# Not needed in a container.
REMOVED = ["usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt/archives", "var/lib/apt/lists"]


class CannotBuild(Exception):
    """The images cannot be built. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Builder:
    """buildah with its storage in `directory`: no daemon, no namespaces, layers are plain directories."""

    directory: Path

    def command(self, *arguments: str) -> list[str]:
        storage = ["--root", str(self.directory / "storage"), "--runroot", str(self.directory / "run")]
        return ["buildah", "--storage-driver", "vfs", *storage, *arguments]

    def run(self, *arguments: str) -> str:
        """Run a command of buildah and return its output.

        Raises:
            CannotBuild: The command failed. The message ends with its output.
        """
        completed = subprocess.run(self.command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False)
        if completed.returncode:
            raise CannotBuild(
                f"buildah {arguments[0]} failed:\n{(completed.stdout + completed.stderr).strip()[-3000:]}"
            )
        return completed.stdout.strip()

    def has(self, image: str) -> bool:
        completed = subprocess.run(self.command("inspect", "--type", "image", image), capture_output=True, check=False)
        return completed.returncode == 0

    def build_base(self, mirror: str) -> str:
        """Build the base image from Debian's packages, unless it exists. Return its name."""
        if self.has(BASE):
            return BASE
        root = self.directory / "debian"
        shutil.rmtree(root, ignore_errors=True)
        _run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root), mirror])
        for path in REMOVED:
            shutil.rmtree(root / path, ignore_errors=True)
            (root / path).mkdir(parents=True)
        container = self.run("from", "scratch")
        try:
            self.run("copy", "--quiet", container, str(root), "/")
            self.run("commit", "--quiet", container, BASE)
        finally:
            self.run("rm", container)
            shutil.rmtree(root)
        return BASE

    def wheels(self) -> Path:
        """Download the packages of the images with this machine's pip, its index and its certificates."""
        content = b"".join((ROOT / path).read_bytes() for path in REQUIREMENTS)
        wheels = self.directory / "wheels" / hashlib.sha256(content).hexdigest()[:16]
        if wheels.exists():
            return wheels
        incomplete = wheels.with_suffix(".new")
        for path in REQUIREMENTS:
            _run([
                sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps",
                "--python-version", PYTHON_OF_SUITE, "--dest", str(incomplete), "--requirement", str(ROOT / path),
            ])  # fmt: skip
        return incomplete.rename(wheels)

    def build(self, target: str, base: str) -> str:
        """Build one target of the Dockerfile. Return the image's name."""
        # Docker's format, because OCI's has no health check. No layers, because each layer of vfs is a full copy.
        self.run(
            "build", "--isolation", "chroot", "--format", "docker", "--layers=false", "--pull-never",
            "--target", target, "--tag", TARGETS[target], "--volume", f"{self.wheels()}:/wheels:ro",
            "--build-arg", f"BASE={base}", "--build-arg", "PIP_NO_INDEX=1",
            "--build-arg", "PIP_FIND_LINKS=/wheels", ".",
        )  # fmt: skip
        return TARGETS[target]


def _run(command: list[str]) -> None:
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise CannotBuild(f"{command[0]} failed:\n{(completed.stdout + completed.stderr).strip()[-3000:]}")


@contextmanager
def locked_builder(directory: Path) -> Iterator[Builder]:
    """Yield a builder while holding the lock of its directory.

    Raises:
        CannotBuild: This machine lacks a program, or the user is not root.
    """
    missing = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if missing:
        raise CannotBuild(f"Missing: {', '.join(missing)}. Run `apt install buildah debootstrap`, or `docker build .`")
    if os.geteuid() != 0:
        raise CannotBuild("buildah needs root here: run `sudo make image`, or `docker build .` with a Docker engine.")
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Builder(directory.resolve())


def build_all(directory: Path, mirror: str = MIRROR) -> dict[str, str]:
    """Build every target. Return the image names by target."""
    with locked_builder(directory) as builder:
        builder.run("rm", "--all")  # containers of killed builds, each a full copy
        base = builder.build_base(mirror)
        images = {target: builder.build(target, base) for target in TARGETS}
        builder.run("rmi", "--prune")  # the previous images
        return images


def main() -> int:
    parser = argparse.ArgumentParser(prog="make image", description=__doc__)
    parser.add_argument("--var", type=Path, default=Path("var"), help="directory for all files")
    parser.add_argument("--mirror", default=MIRROR, help="mirror of Debian's packages")
    arguments = parser.parse_args()
    try:
        images = build_all(arguments.var / "image", arguments.mirror)
    except CannotBuild as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for target, image in images.items():
        sys.stdout.write(f"{target}: {image}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
