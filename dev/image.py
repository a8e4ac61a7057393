"""`make image`: builds the images for real without a Docker engine, by buildah, on a base of Debian's own packages.

Needs root, `buildah` and `debootstrap` (apt install both). What it makes lies below VAR/image and nowhere else.
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
# Nobody reads them in a container.
LEFT_OUT = ["usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt/archives", "var/lib/apt/lists"]


class CannotBuild(Exception):
    """The message is a sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Builder:
    """buildah with its storage in `directory`: no daemon, no namespaces, plain directories for layers."""

    directory: Path

    def command(self, *words: str) -> list[str]:
        storage = ["--root", str(self.directory / "storage"), "--runroot", str(self.directory / "run")]
        return ["buildah", "--storage-driver", "vfs", *storage, *words]

    def run(self, *words: str) -> str:
        """One command of buildah; returns what it printed. Raises `CannotBuild` with the end of what it complained."""
        done = subprocess.run(self.command(*words), cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotBuild(f"buildah {words[0]} failed:\n{(done.stdout + done.stderr).strip()[-3000:]}")
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        done = subprocess.run(self.command("inspect", "--type", "image", image), capture_output=True, check=False)
        return done.returncode == 0

    def make_base(self, mirror: str) -> str:
        """A base image of Debian's packages, made once. Returns its name."""
        if self.has(BASE):
            return BASE
        place = self.directory / "debian"
        shutil.rmtree(place, ignore_errors=True)
        _run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(place), mirror])
        for path in LEFT_OUT:
            shutil.rmtree(place / path, ignore_errors=True)
            (place / path).mkdir(parents=True)
        container = self.run("from", "scratch")
        try:
            self.run("copy", "--quiet", container, str(place), "/")
            self.run("commit", "--quiet", container, BASE)
        finally:
            self.run("rm", container)
            shutil.rmtree(place)
        return BASE

    def wheels(self) -> Path:
        """What the images install, fetched by this machine's own pip, with its index and its certificates."""
        content = b"".join((ROOT / path).read_bytes() for path in REQUIREMENTS)
        place = self.directory / "wheels" / hashlib.sha256(content).hexdigest()[:16]
        if place.exists():
            return place
        fresh = place.with_suffix(".new")
        for path in REQUIREMENTS:
            _run([
                sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps",
                "--python-version", PYTHON_OF_SUITE, "--dest", str(fresh), "--requirement", str(ROOT / path),
            ])  # fmt: skip
        return fresh.rename(place)

    def build(self, target: str, base: str) -> str:
        """Build one target of the Dockerfile. Returns the image's name."""
        # Docker's own format: the other one has no health checks. A layer of vfs is a copy of everything: none between.
        self.run(
            "build", "--isolation", "chroot", "--format", "docker", "--layers=false", "--pull-never",
            "--target", target, "--tag", TARGETS[target], "--volume", f"{self.wheels()}:/wheels:ro",
            "--build-arg", f"BASE={base}", "--build-arg", "PIP_NO_INDEX=1",
            "--build-arg", "PIP_FIND_LINKS=/wheels", ".",
        )  # fmt: skip
        return TARGETS[target]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotBuild(f"{command[0]} failed:\n{(done.stdout + done.stderr).strip()[-3000:]}")


@contextmanager
def alone(directory: Path) -> Iterator[Builder]:
    """One build at a time. Raises `CannotBuild` where this machine lacks something."""
    missing = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if missing:
        raise CannotBuild(f"{' and '.join(missing)} missing: apt install buildah debootstrap. Or: docker build .")
    if os.geteuid() != 0:
        raise CannotBuild("Without an engine, images are built by root: sudo make image. Or: docker build .")
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Builder(directory.resolve())


def build_all(directory: Path, mirror: str = MIRROR) -> dict[str, str]:
    """Build every target; returns their images' names."""
    with alone(directory) as builder:
        builder.run("rm", "--all")  # what a build left that was killed: each is a copy of everything
        base = builder.make_base(mirror)
        images = {target: builder.build(target, base) for target in TARGETS}
        builder.run("rmi", "--prune")  # the images that these replace
        return images


def main() -> int:
    parser = argparse.ArgumentParser(prog="make image", description=__doc__)
    parser.add_argument("--var", type=Path, default=Path("var"), help="where everything is kept")
    parser.add_argument("--mirror", default=MIRROR, help="where Debian's packages are had")
    words = parser.parse_args()
    try:
        images = build_all(words.var / "image", words.mirror)
    except CannotBuild as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for target, image in images.items():
        sys.stdout.write(f"{target}: {image}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
