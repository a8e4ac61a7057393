"""The requests that `make run` sends to the operators' API."""

import time
from collections.abc import Callable
from typing import Any

import requests

GROUP = "demo"
INTERVAL_SECONDS = 2
DEVICE_SECONDS = 60
FLEET_SECONDS = 600
DEPLOYMENT_SECONDS = 180
FINISHED = {"succeeded", "failed", "rolled_back", "rejected", "timed_out", "cancelled"}


class CallFailed(Exception):
    """The control plane responded with an error, or not in time."""


class ControlPlane:
    """The operators' API at `url`, with an API token."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token

    def call(self, method: str, path: str, body: object = None, *, allowed: tuple[int, ...] = ()) -> Any:
        """Send a request and return the JSON of the response.

        Raises:
            CallFailed: The response is an error whose status is not in `allowed`.
        """
        response = requests.request(
            method, f"{self.url}/api/v1{path}", json=body, timeout=30, headers={"Authorization": f"Bearer {self.token}"}
        )
        if not response.ok and response.status_code not in allowed:
            raise CallFailed(f"{method} {path}: {response.status_code} {response.text[:500]}")
        return response.json()

    def create_enrolment_token(
        self, group: str = GROUP, uses: int = 1, interval_seconds: int = INTERVAL_SECONDS
    ) -> str:
        """Create a group if it is missing, and an enrolment token for it. Return the token."""
        body = {"name": group, "description": "Devices for a demonstration", "interval_seconds": interval_seconds}
        self.call("POST", "/groups", body, allowed=(400, 409))
        token = {
            "name": f"devices of {group}",
            "group": group,
            "uses_allowed": uses,
            "expires_in_seconds": 86_400,
            "accepts_at_once": True,
        }
        return str(self.call("POST", "/enrolment-tokens", token)["token"])

    def device(self) -> dict[str, Any] | None:
        """Return the demonstration's device if it is online."""
        devices: list[dict[str, Any]] = self.call("GET", f"/devices?group={GROUP}&online=true")["results"]
        return devices[0] if devices else None

    def wait_for_device(self, check: Callable[[], None]) -> dict[str, Any]:
        """Wait until the device is online. `check` is called while waiting and may raise."""
        deadline = time.monotonic() + DEVICE_SECONDS
        while time.monotonic() < deadline:
            check()
            device = self.device()
            if device:
                return device
            time.sleep(0.2)
        raise CallFailed("The device did not come online.")

    def deploy(self, label: str) -> str:
        """Deploy a bundle to the demonstration's group. Return the deployment's id."""
        # A version that fails is to be refused at once, not tried again.
        body = {"bundle": label, "groups": [GROUP], "devices": [], "max_attempts": 1}
        return str(self.call("POST", "/deployments", body)["id"])

    def running_bundles(self, group: str) -> dict[str, dict[str, Any]]:
        """Return what the devices of a group reported as running, by device id."""
        path: str | None = f"/devices?group={group}&page_size=500"
        running: dict[str, dict[str, Any]] = {}
        while path:
            page = self.call("GET", path)
            running |= {device["id"]: device["running_bundles"] for device in page["results"]}
            path = page["next"] and page["next"].partition("/api/v1")[2]
        return running

    def wait_for_devices(self, count: int, check: Callable[[], None]) -> None:
        """Wait until this many devices are online, over all groups."""
        deadline = time.monotonic() + FLEET_SECONDS
        while self.call("GET", "/status")["devices"]["online"] < count:
            check()
            if time.monotonic() > deadline:
                raise CallFailed(f"The simulated devices did not come online within {FLEET_SECONDS} seconds.")
            time.sleep(0.5)

    def start_deployment(self, **body: Any) -> str:
        """Start a deployment with these fields of the API. Return its id."""
        return str(self.call("POST", "/deployments", body)["id"])

    def wait_for_end(
        self, deployment_id: str, show_step: Callable[[str], None], check: Callable[[], None]
    ) -> dict[str, Any]:
        """Return a deployment once it has ended. Call `show_step` with what it waits for."""
        deadline = time.monotonic() + DEPLOYMENT_SECONDS
        while time.monotonic() < deadline:
            check()
            deployment: dict[str, Any] = self.call("GET", f"/deployments/{deployment_id}")
            if deployment["finished_at"]:
                return deployment
            show_step(deployment["next_step"])
            time.sleep(0.2)
        raise CallFailed(f"The deployment {deployment_id} did not end within {DEPLOYMENT_SECONDS} seconds.")

    def follow(
        self, deployment_id: str, show_state: Callable[[str], None], check: Callable[[], None]
    ) -> dict[str, Any]:
        """Return the only device deployment once it has finished. Call `show_state` with each new state."""
        state = ""
        while True:
            check()
            # The list is empty until the scheduler has planned the deployment.
            for device_deployment in self.call("GET", f"/deployments/{deployment_id}/devices")["results"]:
                if device_deployment["state"] != state:
                    state = device_deployment["state"]
                    show_state(state)
                if state in FINISHED:
                    result: dict[str, Any] = device_deployment
                    return result
            time.sleep(0.1)
