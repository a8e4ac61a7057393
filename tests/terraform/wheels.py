"""Wheels that contain schemas: downloaded once by pinned hash, kept under var/, read as archives."""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.live import ROOT
from tests.tools import unavailable

PINS = Path(__file__).with_name("wheels.txt")
CACHE = ROOT / "var" / "cache" / "wheels"


def wheel(name: str) -> Path:
    """Return the path of a pinned wheel. If it cannot be downloaded, skip the test, or fail it where CI is set."""
    pin = next(line for line in PINS.read_text().splitlines() if line.startswith(f"{name}=="))
    digest = pin.rpartition("sha256:")[2]
    cached = CACHE / f"{digest}.whl"
    if not (cached.exists() and hashlib.sha256(cached.read_bytes()).hexdigest() == digest):
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            _download(pin, Path(scratch)).replace(cached)
    return cached


def _download(pin: str, into: Path) -> Path:
    (into / "pin.txt").write_text(pin + "\n")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    done = subprocess.run([*command, "-r", "pin.txt", "-d", "."], cwd=into, capture_output=True, text=True, check=False)
    if done.returncode:
        advice = f"cannot download {pin.split()[0]}: {done.stderr.strip()[-300:]}"
        unavailable(advice)
    return next(into.glob("*.whl"))
