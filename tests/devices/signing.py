"""A device for tests. It signs as docs/device-api.md describes, with separate code, and calls Django's test client.

`forge` lets a test send what an honest device never sends.
"""

import hashlib
import json
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.test import Client
from nacl.signing import SigningKey

API = "/api/v1"


def key_text(key: SigningKey) -> str:
    return urlsafe_b64encode(bytes(key.verify_key)).decode().rstrip("=")


def sign(
    key: SigningKey,
    method: str,
    authority: str,
    target: str,
    body: bytes,
    *,
    created: int | None = None,
    sequence: int | None = None,
) -> dict[str, str]:
    """Return the headers that sign one request. `target` is the path with its query, if any."""
    path, _, query = target.partition("?")
    digest = "sha-256=:" + b64encode(hashlib.sha256(body).digest()).decode() + ":"
    lines = [("@method", method), ("@authority", authority), ("@path", path), ("@query", "?" + query)]
    lines.append(("content-digest", digest))
    if sequence is not None:
        lines.append(("kernex-sequence", str(sequence)))
    names = " ".join(f'"{name}"' for name, _ in lines)
    created = int(time.time()) if created is None else created
    parameters = f'({names});created={created};keyid="{key_text(key)}";alg="ed25519"'
    base = "\n".join([*(f'"{name}": {value}' for name, value in lines), f'"@signature-params": {parameters}'])
    signature = b64encode(key.sign(base.encode()).signature).decode()
    headers = {
        "Content-Digest": digest,
        "Signature-Input": f"kernex={parameters}",
        "Signature": f"kernex=:{signature}:",
    }
    return headers if sequence is None else headers | {"Kernex-Sequence": str(sequence)}


def heartbeat_body(**changes: Any) -> dict[str, Any]:
    """Return the report of an idle device."""
    return {
        "agent_version": "1.0.0",
        "boot_id": "boot-1",
        "status": "idle",
        "metrics": {"cpu_percent": 2.5},
        "running_bundles": {},
        "acknowledged_commands": [],
        **changes,
    }


@dataclass
class SigningDevice:
    """One machine with its key. `id` comes from its registration."""

    client: Client
    key: SigningKey = field(default_factory=SigningKey.generate)
    id: UUID | str = ""
    sequence: int = 0

    @property
    def public_key(self) -> str:
        return key_text(self.key)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        created: int | None = None,
        sequence: int | None = None,
        forge: Mapping[str, str | None] | None = None,
        sent: bytes | None = None,
        content_type: str = "application/json",
        environ: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send one signed request.

        `forge` replaces headers after signing (None removes one), `sent` replaces the body, and `environ` adds to
        WSGI's environment.
        """
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers: dict[str, str | None] = dict(
            sign(self.key, method, "testserver", API + path, raw, created=created, sequence=sequence)
        )
        headers |= dict(forge or {})
        kept = {name: value for name, value in headers.items() if value is not None}
        data = raw if sent is None else sent
        return self.client.generic(method, API + path, data, content_type=content_type, headers=kept, **(environ or {}))

    def register(self, token: str, **changes: Any) -> Any:
        body = {
            "token": token,
            "public_key": self.public_key,
            "device_type": "edge",
            "hardware": {"cpu": "x"},
            **changes,
        }
        response = self.call("POST", "/devices/register", body)
        if response.status_code in {200, 201}:
            self.id = response.json()["device_id"]
        return response

    def heartbeat(self, sequence: int | None = None, *, body: Any = None, **changes: Any) -> Any:
        """Send a heartbeat with the next sequence number, or with the given one."""
        self.sequence = self.sequence + 1 if sequence is None else sequence
        report = heartbeat_body(**changes) if body is None else body
        return self.call("POST", f"/devices/{self.id}/heartbeat", report, sequence=self.sequence)
