"""People with an API token, for tests."""

import json
from dataclasses import dataclass
from typing import Any

from django.test import Client


@dataclass
class Person:
    """A person who calls the operators' endpoints. An empty `token` sends no credentials."""

    client: Client
    token: str

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request. `path` is relative to `/api/v1`."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.generic(method, f"/api/v1{path}", raw, content_type="application/json", headers=headers)

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def post(self, path: str, body: Any = None) -> Any:
        return self.call("POST", path, body)

    def patch(self, path: str, body: Any) -> Any:
        return self.call("PATCH", path, body)
