"""Bundles for tests."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

# Writes a health file, then sleeps.
PROGRAM = """
import json, os, sys, time
path = os.path.join(os.environ["KERNEX_STATE_DIR"], "health.json")
with open(path + ".new", "w") as file:
    json.dump({"healthy": %s, "message": "a message", "verdict": {"version": os.environ["KERNEX_VERSION"]}}, file)
os.replace(path + ".new", path)
time.sleep(600)
"""
GOOD, BAD = PROGRAM % True, PROGRAM % False


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Bundle:
    """A manifest and its blobs."""

    manifest: dict[str, Any]
    blobs: dict[str, bytes] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        return json.dumps(self.manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @property
    def sha256(self) -> str:
        return sha256(self.body)

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def version(self) -> str:
        return str(self.manifest["version"])


def make(version: str, files: dict[str, bytes | str], name: str = "vad", **fields: Any) -> Bundle:
    """Return a bundle with `files`. Files whose path starts with `bin/` or `hook` are executable."""
    blobs: dict[str, bytes] = {}
    entries = []
    for path, content in sorted(files.items()):
        data = content.encode() if isinstance(content, str) else content
        blobs[sha256(data)] = data
        mode = 0o755 if path.startswith(("bin/", "hook")) else 0o644
        entries.append({"path": path, "sha256": sha256(data), "size": len(data), "mode": mode})
    return Bundle({"schema": 1, "name": name, "version": version, "files": entries, **fields}, blobs)


def program(
    version: str, text: str = GOOD, *, timeout: int = 20, more: dict[str, bytes | str] | None = None, **fields: Any
) -> Bundle:
    """Return a bundle that runs `text` with Python and has a health file."""
    fields.setdefault("run", {"command": ["python3", "run.py"]})
    fields.setdefault("health", {"file": "health.json", "timeout_seconds": timeout})
    return make(version, {"run.py": text, **(more or {})}, **fields)


def data(version: str, files: dict[str, bytes | str] | None = None, **fields: Any) -> Bundle:
    """Return a bundle without a run command."""
    return make(version, files or {"data": f"data of {version}"}, **fields)
