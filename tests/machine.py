"""A simulated device that sends signed requests over HTTP."""

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

import requests
from nacl.signing import SigningKey

from tests.devices.signing import heartbeat_body, key_text, sign
from tests.live import Live


@dataclass
class Machine:
    server: Live
    key: SigningKey = field(default_factory=SigningKey.generate)
    name: str = field(default_factory=lambda: f"shelf-{secrets.token_hex(4)}")
    id: str = ""
    sequence: int = 0

    def send(self, path: str, body: Any, sequence: int | None = None) -> requests.Response:
        """Send one signed request."""
        content = json.dumps(body).encode()
        authority = self.server.url.removeprefix("http://")
        headers = sign(self.key, "POST", authority, f"/api/v1{path}", content, sequence=sequence)
        headers["Content-Type"] = "application/json"
        return requests.post(f"{self.server.url}/api/v1{path}", data=content, headers=headers, timeout=30)

    def post(self, path: str, body: Any, sequence: int | None = None) -> Any:
        """Send one signed request that must succeed. Return the body of the response."""
        response = self.send(path, body, sequence)
        assert response.ok, response.text
        return response.json()

    def enrol(self, token: str) -> requests.Response:
        """Send the request that registers the device."""
        body = {"token": token, "public_key": key_text(self.key), "device_type": "edge", "hardware": {}}
        return self.send("/devices/register", body | {"name": self.name})

    def register(self, token: str) -> "Machine":
        """Register the device, which must succeed. Return self."""
        response = self.enrol(token)
        assert response.ok, response.text
        self.id = response.json()["device_id"]
        return self

    def beat(self, **fields: Any) -> requests.Response:
        """Send the next heartbeat."""
        self.sequence += 1
        return self.send(f"/devices/{self.id}/heartbeat", heartbeat_body(**fields), sequence=self.sequence)

    def heartbeat(self, **fields: Any) -> Any:
        """Send the next heartbeat, which must succeed. Return the body of the response."""
        response = self.beat(**fields)
        assert response.ok, response.text
        return response.json()

    def report(self, command: dict[str, Any], number: int, state: str, **fields: Any) -> Any:
        """Report a state of a deploy command's device deployment."""
        payload = command["payload"]
        body = {
            "attempt": payload["attempt"],
            "report": number,
            "state": state,
            "reason_code": "",
            "message": "",
            **fields,
        }
        return self.post(f"/deployments/{payload['deployment_id']}/result", body)
