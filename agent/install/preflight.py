"""What a device looks at before it changes anything."""

import shutil
from pathlib import Path

from agent.config import Config
from agent.errors import InstallationFailed
from agent.machine import memory_size
from agent.manifest import Manifest
from agent.releases.blob_store import Store

BLOCK_SIZE = 4096


def check(config: Config, manifest: Manifest, store: Store) -> None:
    """Refuse a bundle that is not for this device: `wrong_device_type`, `no_memory`, `no_space`."""
    if manifest.device_types and config.device_type not in manifest.device_types:
        wanted = ", ".join(manifest.device_types)
        raise _refusal(
            "wrong_device_type", f"The bundle is for {wanted}; this device is of the type {config.device_type}."
        )
    memory = memory_size()
    if 0 < memory < manifest.memory:
        raise _refusal("no_memory", f"This device has {memory} bytes of memory; the bundle requires {manifest.memory}.")
    needed = max(missing(manifest, store), manifest.disk) + config.disk_margin
    free = free_space(store.directory)
    if free < needed:
        raise _refusal("no_space", f"{free} bytes of disk are free; {needed} are needed.")


def missing(manifest: Manifest, store: Store) -> int:
    """The disk space that a release takes beyond what is in the store already. Further paths of a blob are copies."""
    seen: set[str] = set()
    total = 0
    for file in manifest.files:
        size = file.size if file.sha256 in seen else store.missing(file.sha256, file.size)
        total += -(-size // BLOCK_SIZE) * BLOCK_SIZE
        seen.add(file.sha256)
    return total


def free_space(path: Path) -> int:
    """The bytes that this process may still write there."""
    return shutil.disk_usage(path).free


def _refusal(code: str, message: str) -> InstallationFailed:
    return InstallationFailed(code, message, is_refusal=True)
