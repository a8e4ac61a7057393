"""Limits of downloads: how many a process sends at the same time, and one per device on a machine."""

import fcntl
import os
import tempfile
import threading
from pathlib import Path
from uuid import UUID

from django.conf import settings

# One byte of this file stands for each device. The locks of a process end with it.
LOCK_FILE = Path(tempfile.gettempdir()) / f"kernex-downloads-{os.getuid()}.lock"
LOCKABLE_BYTES = 2**62


class DownloadSlots:
    """The downloads of this process. Each holds a file lock, which tells other processes that its device downloads."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.devices: set[UUID] = set()
        # Re-entrant: the garbage collector may release a slot while this thread acquires one.
        self.lock = threading.RLock()
        self.file_descriptor: int | None = None

    def acquire(self, device_id: UUID) -> bool:
        """Get a slot for a device, without waiting. False if all are in use, or if the device has one."""
        with self.lock:
            if device_id in self.devices or len(self.devices) >= self.size:
                return False
            try:
                fcntl.lockf(self._open(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, device_id.int % LOCKABLE_BYTES)
            except BlockingIOError:
                return False
            self.devices.add(device_id)
            return True

    def release(self, device_id: UUID) -> None:
        with self.lock:
            self.devices.discard(device_id)
            fcntl.lockf(self._open(), fcntl.LOCK_UN, 1, device_id.int % LOCKABLE_BYTES)

    def _open(self) -> int:
        # Opened at the first download, because workers are forked and must not share it. Never closed, because
        # closing any descriptor of the file would release all locks of the process.
        if self.file_descriptor is None:
            self.file_descriptor = os.open(LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        return self.file_descriptor


SLOTS = DownloadSlots(max(1, settings.WEB_THREADS // 2))
