"""What this device is, as it reports it: boot, metrics, inventory."""

import os
import platform
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any


def boot_id() -> str:
    """Changes with every boot. Two that alternate on one key betray a copied device."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return "unknown"


def metrics(directory: Path) -> dict[str, Any]:
    """How the device is doing: load, memory and disk in bytes, uptime in seconds."""
    disk = shutil.disk_usage(directory)
    measured: dict[str, Any] = {"disk_free": disk.free, "disk_size": disk.total}
    with suppress(OSError):
        measured["load_1m"] = round(os.getloadavg()[0], 2)
    with suppress(OSError, ValueError):
        measured["uptime_seconds"] = int(float(Path("/proc/uptime").read_text().split()[0]))
    memory = _meminfo()
    if memory:
        measured |= {"memory_size": memory.get("MemTotal", 0), "memory_free": memory.get("MemAvailable", 0)}
    return measured


def inventory() -> dict[str, Any]:
    """What the device is made of; changes rarely."""
    return {
        "hostname": platform.node()[:200],
        "machine": platform.machine(),
        "system": platform.system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpus": os.cpu_count() or 0,
        "memory_size": _meminfo().get("MemTotal", 0),
    }


def _meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes; empty where there is none."""
    sizes = {}
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if value.endswith("kB"):
                sizes[name] = int(value.split()[0]) * 1024
    return sizes
