"""Wheels that carry schemas: fetched once by their pinned hashes, kept under var/, read as archives."""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.live import ROOT

PINS = Path(__file__).with_name("wheels.txt")
KEPT = ROOT / "var" / "cache" / "wheels"


def wheel(name: str) -> Path:
    """The path of a pinned wheel. Skips the test if it can not be had; fails it under CI."""
    pin = next(line for line in PINS.read_text().splitlines() if line.startswith(f"{name}=="))
    digest = pin.rpartition("sha256:")[2]
    kept = KEPT / f"{digest}.whl"
    if not (kept.exists() and hashlib.sha256(kept.read_bytes()).hexdigest() == digest):
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT) as scratch:
            _download(pin, Path(scratch)).replace(kept)
    return kept


def _download(pin: str, into: Path) -> Path:
    (into / "pin.txt").write_text(pin + "\n")
    words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    done = subprocess.run([*words, "-r", "pin.txt", "-d", "."], cwd=into, capture_output=True, text=True, check=False)
    if done.returncode:
        advice = f"cannot fetch {pin.split()[0]}: {done.stderr.strip()[-300:]}"
        if os.environ.get("CI"):
            pytest.fail(advice)
        pytest.skip(advice)
    return next(into.glob("*.whl"))
