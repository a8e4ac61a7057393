"""A device that says over HTTP what a test has it say."""

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
        """One signed request."""
        sent = json.dumps(body).encode()
        authority = self.server.url.removeprefix("http://")
        headers = sign(self.key, "POST", authority, f"/api/v1{path}", sent, sequence=sequence)
        headers["Content-Type"] = "application/json"
        return requests.post(f"{self.server.url}/api/v1{path}", data=sent, headers=headers, timeout=30)

    def post(self, path: str, body: Any, sequence: int | None = None) -> Any:
        """One signed request that has to succeed."""
        answer = self.send(path, body, sequence)
        assert answer.ok, answer.text
        return answer.json()

    def enrol(self, token: str) -> requests.Response:
        """The request that registers."""
        body = {"token": token, "public_key": key_text(self.key), "device_type": "edge", "hardware": {}}
        return self.send("/devices/register", body | {"name": self.name})

    def register(self, token: str) -> "Machine":
        """Enrol, which has to succeed."""
        answer = self.enrol(token)
        assert answer.ok, answer.text
        self.id = answer.json()["device_id"]
        return self

    def beat(self, **said: Any) -> requests.Response:
        """The next heartbeat."""
        self.sequence += 1
        return self.send(f"/devices/{self.id}/heartbeat", heartbeat_body(**said), sequence=self.sequence)

    def heartbeat(self, **said: Any) -> Any:
        """The next heartbeat, which has to succeed."""
        answer = self.beat(**said)
        assert answer.ok, answer.text
        return answer.json()

    def report(self, command: dict[str, Any], number: int, state: str, **said: Any) -> Any:
        """What the device says about a deploy command."""
        payload = command["payload"]
        body = {
            "attempt": payload["attempt"],
            "report": number,
            "state": state,
            "reason_code": "",
            "message": "",
            **said,
        }
        return self.post(f"/deployments/{payload['deployment_id']}/result", body)
