"""The few calls of the operators' API that `make run` makes."""

import time
from collections.abc import Callable
from typing import Any

import requests

GROUP = "demo"
INTERVAL_SECONDS = 2
DEVICE_SECONDS = 60
FINISHED = {"succeeded", "failed", "rolled_back", "rejected", "timed_out", "cancelled"}


class CallFailed(Exception):
    """The control plane answered with an error."""


class ControlPlane:
    """The operators' API at `url`, with an API token."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token

    def call(self, method: str, path: str, body: object = None, *, allowed: tuple[int, ...] = ()) -> Any:
        """One request; the answer's JSON. Raises `CallFailed` unless it succeeded or its status is `allowed`."""
        answer = requests.request(
            method, f"{self.url}/api/v1{path}", json=body, timeout=30, headers={"Authorization": f"Bearer {self.token}"}
        )
        if not answer.ok and answer.status_code not in allowed:
            raise CallFailed(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json()

    def make_enrolment_token(self) -> str:
        """The string of a new enrolment token for the demonstration's group, which is made if it is missing."""
        group = {"name": GROUP, "description": "The device that make run starts", "interval_seconds": INTERVAL_SECONDS}
        self.call("POST", "/groups", group, allowed=(400, 409))
        token = {
            "name": "make run",
            "group": GROUP,
            "uses_allowed": 1,
            "expires_in_seconds": 86_400,
            "accepts_at_once": True,
        }
        return str(self.call("POST", "/enrolment-tokens", token)["token"])

    def device(self) -> dict[str, Any] | None:
        """The demonstration's device, once it is enrolled."""
        found: list[dict[str, Any]] = self.call("GET", f"/devices?group={GROUP}&online=true")["results"]
        return found[0] if found else None

    def wait_for_device(self, check: Callable[[], None]) -> dict[str, Any]:
        """Wait until the device is online. `check` may raise meanwhile."""
        deadline = time.monotonic() + DEVICE_SECONDS
        while time.monotonic() < deadline:
            check()
            device = self.device()
            if device:
                return device
            time.sleep(0.2)
        raise CallFailed("The device did not come online.")

    def deploy(self, label: str) -> str:
        """Deploy a bundle to the demonstration's group. Returns the deployment's id."""
        return str(self.call("POST", "/deployments", {"bundle": label, "groups": [GROUP], "devices": []})["id"])

    def follow(self, deployment_id: str, tell: Callable[[str], None], check: Callable[[], None]) -> dict[str, Any]:
        """Watch the one device deployment until its end; `tell` is told each state. Returns its last row."""
        told = ""
        while True:
            check()
            row: dict[str, Any] = self.call("GET", f"/deployments/{deployment_id}/devices")["results"][0]
            if row["state"] != told:
                told = row["state"]
                tell(told)
            if told in FINISHED:
                return row
            time.sleep(0.1)
