"""Installed bundles of one product: directories that are complete or not there, and one name for the current one.

products/<name>/releases/<manifest sha256>/   a complete release; its files lie as the manifest lists them
products/<name>/manifests/<manifest sha256>   that manifest, byte for byte
products/<name>/state/<manifest sha256>/      KERNEX_STATE_DIR of that release
products/<name>/staging/                      a release on its way
products/<name>/current -> releases/<manifest sha256>
products/<name>/previous -> releases/<manifest sha256>, what a rollback goes back to
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from agent import files
from agent.blobs import Blobs, digest
from agent.errors import AgentError, DeploymentFailed
from agent.manifest import Manifest, parse


class Product:
    """The releases of one product below `root` (`products/<name>`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = root.name
        self.staging = root / "staging"

    @classmethod
    def all(cls, products: Path) -> "list[Product]":
        return [cls(path) for path in sorted(products.iterdir()) if path.is_dir()] if products.exists() else []

    def make(self) -> None:
        for name in ("releases", "manifests", "state"):
            files.make_directory(self.root / name)

    @property
    def current(self) -> str:
        """The manifest sha256 of the current release; empty if there is none."""
        return self._named("current")

    @property
    def previous(self) -> str:
        """The manifest sha256 of the release before it; empty if there is none."""
        return self._named("previous")

    def _named(self, link: str) -> str:
        try:
            return (self.root / link).readlink().name
        except OSError:
            return ""

    def release(self, sha256: str) -> Path:
        return self.root / "releases" / sha256

    def state(self, sha256: str) -> Path:
        return self.root / "state" / sha256

    def is_installed(self, sha256: str) -> bool:
        return bool(sha256) and self.release(sha256).is_dir()

    def manifest(self, sha256: str) -> Manifest:
        """The manifest of an installed release."""
        body = (self.root / "manifests" / sha256).read_bytes()
        named = parse_names(body)
        return parse(body, sha256, *named)

    def keep_manifest(self, sha256: str, body: bytes) -> None:
        files.write(self.root / "manifests" / sha256, body)

    def stage(self, manifest: Manifest, blobs: Blobs, check: Callable[[], None]) -> None:
        """Build the release beside its place and move it there in one step. Harmless when it is there already.

        `check` is called between files and may raise to stop. Raises `DeploymentFailed` (`no_space`, `bad_blob`).
        """
        place = self.release(manifest.sha256)
        if place.is_dir():
            return
        shutil.rmtree(self.staging, ignore_errors=True)
        try:
            self.staging.mkdir(mode=0o755)
            for file in manifest.files:
                check()
                self._copy(blobs.path(file.sha256), self.staging / file.path, file.sha256, file.mode)
            for directory, _, _ in os.walk(self.staging):
                files.sync_directory(Path(directory))
            self.staging.replace(place)
            files.sync_directory(place.parent)
        except OSError as error:
            raise DeploymentFailed(
                "no_space" if error.errno == 28 else "internal", f"Staging failed: {error}"
            ) from error

    def _copy(self, source: Path, target: Path, sha256: str, mode: int) -> None:
        """Copied, never linked: what a running program does to its files must not reach the store."""
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(mode)
        with target.open("rb") as file:
            os.fsync(file.fileno())
        if digest(target) != sha256:
            source.unlink(missing_ok=True)
            raise DeploymentFailed("bad_blob", f"{target.name} changed on this device's disk.")

    def point(self, link: str, sha256: str) -> None:
        """Point `current` or `previous` at a release in one step, or at none if `sha256` is empty."""
        if sha256:
            files.switch(self.root / link, f"releases/{sha256}")
        else:
            files.remove(self.root / link)

    def keep_only(self, wanted: set[str]) -> None:
        """Delete every release, manifest and state directory but those of `wanted`, and what was being staged."""
        shutil.rmtree(self.staging, ignore_errors=True)
        for name in ("releases", "manifests", "state"):
            for path in self._entries(name):
                if path.name in wanted:
                    continue
                if path.is_dir():
                    # Renamed first, so that a release is complete or not there, also in the middle of deleting it.
                    doomed = path if name != "releases" else path.rename(self.staging)
                    shutil.rmtree(doomed, ignore_errors=True)
                else:
                    path.unlink()

    def _entries(self, name: str) -> Iterator[Path]:
        directory = self.root / name
        return iter(list(directory.iterdir()) if directory.exists() else [])


def parse_names(body: bytes) -> tuple[str, str]:
    """Name and version in an installed manifest. Raises `AgentError` if it is damaged."""
    try:
        value = json.loads(body)
        return str(value["name"]), str(value["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise AgentError("An installed manifest is damaged.") from error
