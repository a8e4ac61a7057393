"""Installed releases: each directory is complete or does not exist, and one rename switches the link `current`.

products/<product>/current                 -> releases/<sha256>
products/<product>/releases/<sha256>/      the bundle's files, named by the sha256 of their manifest
products/<product>/releases/<sha256>.json  their manifest
products/<product>/state/<sha256>/         the directory where the release may write (KERNEX_STATE_DIR)
products/<product>/staging/                a release that is being built
products/<product>/program.json            the process id and the start time of the running program
"""

import hashlib
import logging
import os
import shutil
from pathlib import Path
from uuid import uuid4

from agent.atomic_files import (
    create_directory,
    open_regular,
    read_limited,
    remove,
    sync_directory,
    sync_file,
    write_atomically,
)
from agent.manifest import EXECUTABLE_MODE, MAX_SIZE, NAME, REGULAR_MODE, SHA256, Manifest, parse
from agent.manifest_parts import File
from agent.paths import BadManifest
from agent.releases.blob_store import BLOCK_SIZE, BlobStore, StopCheck

logger = logging.getLogger(__name__)


class Releases:
    """All releases of a device, in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.trash = directory.parent / "trash"
        create_directory(directory)
        create_directory(self.trash)

    def products(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir() if NAME.fullmatch(path.name))

    def product(self, product: str) -> Path:
        return self.directory / product

    def path(self, product: str, sha256: str) -> Path:
        return self.directory / product / "releases" / sha256

    def state_path(self, product: str, sha256: str) -> Path:
        return self.directory / product / "state" / sha256

    def is_complete(self, product: str, sha256: str) -> bool:
        return self.path(product, sha256).is_dir() and self.manifest_path(product, sha256).exists()

    def complete(self, product: str) -> list[str]:
        """Return the sha256s of all complete releases of a product."""
        directory = self.directory / product / "releases"
        names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
        return sorted(name for name in names if SHA256.fullmatch(name) and self.is_complete(product, name))

    def current(self, product: str) -> str:
        """Return the sha256 of the release that `current` points to, or an empty string if it points to none."""
        try:
            target = (self.product(product) / "current").readlink()
        except OSError:
            return ""
        return target.name if SHA256.fullmatch(target.name) and target.parent == Path("releases") else ""

    def switch(self, product: str, sha256: str) -> None:
        """Point `current` to this release by one rename, or remove it if `sha256` is empty."""
        link = self.product(product) / "current"
        temporary = link.with_name("current.new")
        create_directory(link.parent)
        remove(temporary)  # left by a switch that a power cut interrupted
        if not link.is_symlink():
            self.discard(link)  # a copied state directory may hold a directory here
        if not sha256:
            link.unlink(missing_ok=True)
        elif self.current(product) != sha256:
            temporary.symlink_to(f"releases/{sha256}")
            temporary.replace(link)
        sync_directory(link.parent)

    def manifest_path(self, product: str, sha256: str) -> Path:
        return self.directory / product / "releases" / f"{sha256}.json"

    def save_manifest(self, product: str, sha256: str, body: bytes) -> None:
        path = self.manifest_path(product, sha256)
        create_directory(path.parent)
        write_atomically(path, body)

    def manifest(self, product: str, sha256: str) -> Manifest:
        """Return a saved manifest. Raises `FileNotFoundError`, or `BadManifest` if it is damaged."""
        body = read_limited(self.manifest_path(product, sha256), MAX_SIZE)
        if hashlib.sha256(body).hexdigest() != sha256:
            raise BadManifest("not_json", f"The saved manifest {sha256} is damaged.")
        return parse(body)

    def stage(self, product: str, sha256: str, manifest: Manifest, store: BlobStore, check: StopCheck) -> None:
        """Build a release from blobs in the store, and rename it to its final name when it is complete.

        The first path of a blob is a hard link, and further paths are copies. The caller empties the store before the
        release runs, so that the two never share a file.
        """
        staging = self.product(product) / "staging"
        remove(staging)
        create_directory(staging)
        linked: set[str] = set()
        for file in manifest.files:
            check()
            path = staging / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            _add_file(store.path(file.sha256), path, is_copy=file.sha256 in linked)
            linked.add(file.sha256)
            if file.mode == EXECUTABLE_MODE or path.stat().st_mode & 0o777 != REGULAR_MODE:
                path.chmod(file.mode)
                sync_file(path)
        for directory in sorted({path.parent for path in staging.rglob("*")} | {staging}, reverse=True):
            sync_directory(directory)
        self.discard(self.path(product, sha256))
        staging.replace(self.path(product, sha256))
        sync_directory(self.path(product, sha256).parent)

    def matches(self, product: str, sha256: str, manifest: Manifest, check: StopCheck) -> bool:
        """Return whether every file of a release matches its manifest."""
        root = self.path(product, sha256)
        return root.is_dir() and all(_matches(root / file.path, file, check) for file in manifest.files)

    def create_state_directory(self, product: str, sha256: str) -> Path:
        """Create the directory in which a release may write, and return it."""
        path = self.state_path(product, sha256)
        for directory in (path.parent, path):
            if not directory.is_dir():
                self.discard(directory)  # a program may have replaced the directory with something else
        create_directory(path)
        return path

    def discard(self, path: Path) -> None:
        """Delete a file or directory. Move it to the trash first, so that its path is never half deleted."""
        if os.path.lexists(path):
            trashed = self.trash / uuid4().hex
            path.replace(trashed)
            sync_directory(path.parent)
            _try_to_remove(trashed)

    def keep_only(self, product: str, wanted: set[str], *, with_staging: bool = False) -> None:
        """Delete all other releases of a product, with their manifests and state directories."""
        root = self.product(product)
        if not with_staging:
            remove(root / "staging")
        for name in ("releases", "state"):
            directory = root / name
            for path in directory.iterdir() if directory.is_dir() else ():
                if path.name.removesuffix(".json") not in wanted:
                    self.discard(path)
        if not wanted:
            self.discard(root)

    def empty_trash(self) -> None:
        for path in self.trash.iterdir():
            _try_to_remove(path)


def _try_to_remove(path: Path) -> None:
    """Delete a file or directory. If that fails, for example because another user owns it, log it."""
    try:
        remove(path)
    except (OSError, RecursionError) as error:
        logger.warning("%s cannot be deleted: %s", path, error)


def _add_file(blob: Path, path: Path, *, is_copy: bool) -> None:
    if not is_copy:
        os.link(blob, path)
        return
    shutil.copyfile(blob, path)
    path.chmod(REGULAR_MODE)
    sync_file(path)


def _matches(path: Path, file: File, check: StopCheck) -> bool:
    digest = hashlib.sha256()
    try:
        if path.is_symlink() or path.stat().st_size != file.size or path.stat().st_mode & 0o777 != file.mode:
            return False
        with open_regular(path) as opened:
            while block := opened.read(BLOCK_SIZE):
                check()
                digest.update(block)
    except OSError:
        return False
    return digest.hexdigest() == file.sha256
