"""One simulated device: it speaks the device API with real signatures, and only pretends to install bundles."""

import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

import requests
from nacl.signing import SigningKey

from agent.server.signing import SignedRequest, UnsignedRequest, key_text, sign

API = "/api/v1"
STAGES = ("accepted", "downloading", "installing", "checking")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a fleet behaves. Rates are from 0 to 1, times in seconds.

    `failing` and `crashing` are the shares of devices that fail to install a version, and on which it becomes unhealthy
    after its success, by version. `type_failing` is the share by device type.
    """

    failing: dict[str, float] = field(default_factory=dict)
    crashing: dict[str, float] = field(default_factory=dict)
    type_failing: dict[str, float] = field(default_factory=dict)
    crash_seconds: float = 10
    stage_seconds: float = 2
    offline: float = 0
    offline_seconds: float = 120


@dataclass(slots=True)
class Job:
    """A deployment that the device works on. `stage` is an index of STAGES."""

    deployment_id: str
    attempt: int
    name: str
    version: str
    manifest_sha256: str
    report: int = 0
    stage: int = -1
    next_at: float = 0


@dataclass
class SimulatedDevice:
    """A device with its key. `due_at` is when it acts next, on the monotonic clock."""

    url: str
    name: str
    device_type: str
    behaviour: Behaviour
    seed: int
    session: requests.Session
    running: dict[str, dict[str, Any]] = field(default_factory=dict)
    device_id: str = ""
    interval_seconds: float = 30
    due_at: float = 0
    job: Job | None = None
    acknowledged: list[int] = field(default_factory=list)
    previous: dict[str, dict[str, Any]] = field(default_factory=dict)
    crash_at: float = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311 — a simulation, not a secret
        self.key = SigningKey(self.random.randbytes(32))
        self.public_key = key_text(bytes(self.key.verify_key))
        # Seconds grow faster than heartbeats, so a second run continues with higher numbers.
        self.sequence = int(time.time())
        self.boot_id = f"{self.random.getrandbits(64):016x}"
        self.is_offline_until = 0.0

    def register(self, token: str) -> None:
        """Enrol the device. A key that is known stays as it is."""
        body = {
            "token": token, "public_key": self.public_key, "device_type": self.device_type, "name": self.name,
            "hardware": {"cpu": "simulated", "memory": 1024**3},
        }  # fmt: skip
        answer = self.send("POST", "/devices/register", body)
        self.device_id, self.interval_seconds = answer["device_id"], answer["interval_seconds"]

    def act(self, now: float) -> None:
        """Send a heartbeat and the reports that are due, and decide when to act next."""
        if self.is_offline_until > now:
            self.due_at = self.is_offline_until
            return
        if self.random.random() < self.behaviour.offline * self.interval_seconds / self.behaviour.offline_seconds:
            self.is_offline_until = self.due_at = now + self.random.uniform(0.5, 1.5) * self.behaviour.offline_seconds
            return
        self._crash_if_due(now)
        self._work(now)
        self._beat()
        self.due_at = now + self.interval_seconds * self.random.uniform(0.9, 1.1)
        if self.job is not None:
            self.due_at = min(self.due_at, max(now + 0.2, self.job.next_at))
        if self.crash_at:
            self.due_at = min(self.due_at, self.crash_at)

    def _beat(self) -> None:
        self.sequence += 1
        body = {
            "agent_version": "1.0.0",
            "boot_id": self.boot_id,
            "status": "busy" if self.job else "idle",
            "metrics": {"cpu_percent": round(self.random.uniform(1, 40), 1), "disk_free": 8 * 1024**3},
            "running_bundles": self.running,
            "acknowledged_commands": self.acknowledged,
        }
        answer = self.send("POST", f"/devices/{self.device_id}/heartbeat", body, self.sequence)
        self.acknowledged = []
        self.interval_seconds = answer.get("interval_seconds", self.interval_seconds)
        for command in answer.get("commands", []):
            self.acknowledged.append(command["id"])
            payload = command["payload"]
            if command["kind"] == "deploy":
                bundle = payload["bundle"]
                self.job = Job(
                    payload["deployment_id"], payload["attempt"], bundle["name"], bundle["version"],
                    bundle["manifest_sha256"],
                )  # fmt: skip
            elif command["kind"] == "cancel" and self.job and self.job.deployment_id == payload["deployment_id"]:
                self._report("cancelled", "cancelled")
                self.job = None

    def _work(self, now: float) -> None:
        """Report the next stage of the deployment, or its end."""
        job = self.job
        if job is None or now < job.next_at:
            return
        job.stage += 1
        job.next_at = now + self.behaviour.stage_seconds * self.random.uniform(0.5, 1.5)
        if job.stage < len(STAGES):
            self._report(STAGES[job.stage])
            return
        self.job = None
        failing = max(self.behaviour.failing.get(job.version, 0), self.behaviour.type_failing.get(self.device_type, 0))
        if self.random.random() < failing:
            self._report("rolled_back", "unhealthy", f"{job.name} {job.version} does not report its health", job)
            return
        self.previous = dict(self.running)
        self.running = {
            **self.running,
            job.name: {"version": job.version, "manifest_sha256": job.manifest_sha256, "healthy": True},
        }
        if self.random.random() < self.behaviour.crashing.get(job.version, 0):
            self.crash_at = now + self.behaviour.crash_seconds * self.random.uniform(0.5, 1.5)
        self._report("succeeded", job=job)

    def _crash_if_due(self, now: float) -> None:
        """Let the program become unhealthy, after a deployment has succeeded."""
        if not self.crash_at or now < self.crash_at:
            return
        self.crash_at = 0
        crashing = self.behaviour.crashing
        for name, entry in self.running.items():
            if crashing.get(entry["version"], 0):
                self.running[name] = entry | {"healthy": False, "message": "segmentation fault", "restarts": 3}

    def _report(self, state: str, reason_code: str = "", message: str = "", job: Job | None = None) -> None:
        job = job or self.job
        if job is None:
            return
        job.report += 1
        body = {
            "attempt": job.attempt, "report": job.report, "state": state, "reason_code": reason_code,
            "message": message,
        }  # fmt: skip
        answer = self.send("POST", f"/deployments/{job.deployment_id}/result", body, allowed=(404, 409))
        if answer.get("state") == "cancelling" and self.job is job:
            self.job = None
            self._report("cancelled", "cancelled", job=job)

    def send(
        self, method: str, path: str, body: Any, sequence: int | None = None, allowed: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """Send a signed request. Raises `requests.RequestException` unless the status is 2xx or in `allowed`."""
        raw = json.dumps(body).encode()
        request: SignedRequest = sign(
            lambda message: bytes(self.key.sign(message).signature), self.public_key,
            UnsignedRequest(method, f"{self.url}{API}{path}", raw), created=int(time.time()), sequence=sequence,
        )  # fmt: skip
        headers = request.headers | {"Content-Type": "application/json"}
        response = self.session.request(method, request.url, data=raw, headers=headers, timeout=30)
        if response.status_code not in allowed:
            response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer
