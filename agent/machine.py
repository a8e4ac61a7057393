"""The hardware and the current load of this machine, as the kernel reports them. No function here raises an error."""

import os
import platform
import shutil
from pathlib import Path
from typing import Any

MEMORY = Path("/proc/meminfo")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MODEL = Path("/proc/device-tree/model")
THERMAL = Path("/sys/class/thermal")


def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return _line(BOOT_ID)[:64] or "unknown"


def memory_size() -> int:
    """Return the memory in bytes, or 0 if it is unknown."""
    return _meminfo().get("MemTotal", 0)


def hardware() -> dict[str, Any]:
    """Return the properties of the machine that do not change while it runs."""
    return {
        "machine": platform.machine(),
        "model": _line(MODEL)[:200],
        "cpus": os.cpu_count() or 0,
        "memory": memory_size(),
        "system": f"{platform.system()} {platform.release()}"[:200],
        "python": platform.python_version(),
    }


def metrics(state_dir: Path) -> dict[str, Any]:
    """Return the current use of memory, disk and CPU. Sizes are bytes."""
    memory = _meminfo()
    values: dict[str, Any] = {"memory_total": memory.get("MemTotal", 0), "memory_free": memory.get("MemAvailable", 0)}
    try:
        usage = shutil.disk_usage(state_dir)
        values |= {"disk_total": usage.total, "disk_free": usage.free}
        values["load_1m"] = round(os.getloadavg()[0], 2)
    except OSError:
        pass
    uptime = _line(Path("/proc/uptime")).split(" ")[0]
    if uptime.replace(".", "", 1).isdecimal():
        values["uptime_seconds"] = int(float(uptime))
    temperature = _temperature()
    return values if temperature is None else values | {"temperature_celsius": temperature}


def _meminfo() -> dict[str, int]:
    """Return the entries of /proc/meminfo in bytes."""
    sizes = {}
    for line in _text(MEMORY).splitlines():
        name, _, amount = line.partition(":")
        words = amount.split()
        if words and words[0].isdecimal():
            sizes[name] = int(words[0]) * 1024
    return sizes


def _temperature() -> float | None:
    readings = [_line(path) for path in sorted(THERMAL.glob("thermal_zone*/temp"))[:8]]
    degrees = [int(text) / 1000 for text in readings if text.lstrip("-").isdecimal()]
    return max(degrees, default=None)


def _line(path: Path) -> str:
    return _text(path).strip("\x00\n ")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
