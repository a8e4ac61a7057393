"""The checks that precede an installation. They change nothing."""

import shutil
from pathlib import Path

from agent.config import Config
from agent.errors import InstallationFailed
from agent.machine import memory_size
from agent.manifest import Manifest
from agent.releases.blob_store import Blob, BlobStore

BLOCK_SIZE = 4096


def check(config: Config, manifest: Manifest, store: BlobStore) -> None:
    """Refuse a bundle that this device cannot run.

    Raises:
        InstallationFailed: `wrong_device_type`, `no_memory` or `no_space`, with `is_refusal` set.
    """
    if manifest.device_types and config.device_type not in manifest.device_types:
        types = ", ".join(manifest.device_types)
        raise _refusal(
            "wrong_device_type", f"The bundle is for {types}; this device has the type {config.device_type}."
        )
    memory = memory_size()
    if 0 < memory < manifest.memory:
        raise _refusal("no_memory", f"This device has {memory} bytes of memory; the bundle requires {manifest.memory}.")
    needed = max(required_space(manifest, store), manifest.disk) + config.disk_margin
    free = free_space(store.directory)
    if free < needed:
        raise _refusal("no_space", f"{free} bytes of disk are free; {needed} are needed.")


def required_space(manifest: Manifest, store: BlobStore) -> int:
    """Return the disk space in bytes that a release needs in addition to the blobs in the store.

    The first path of a blob is a hard link, and further paths are copies.
    """
    linked: set[str] = set()
    total = 0
    for file in manifest.files:
        size = file.size if file.sha256 in linked else store.missing_size(Blob(file.sha256, file.size))
        total += -(-size // BLOCK_SIZE) * BLOCK_SIZE
        linked.add(file.sha256)
    return total


def free_space(path: Path) -> int:
    """Return how many bytes are free for this process on the file system of `path`."""
    return shutil.disk_usage(path).free


def _refusal(code: str, message: str) -> InstallationFailed:
    return InstallationFailed(code, message, is_refusal=True)
