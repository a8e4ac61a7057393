"""The daemon: heartbeats, commands, reports and programs, round and round, while one thread at a time installs."""

import fcntl
import hashlib
import json
import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent import __version__, device, files
from agent.backoff import Backoff
from agent.blobs import Blobs
from agent.config import Config
from agent.errors import AgentError, Answered, BadConfig, Stopped, Unreachable
from agent.identity import Identity
from agent.installer import Installer, restore
from agent.outbox import Outbox
from agent.releases import Product
from agent.state import Job, State
from agent.supervisor import Supervisor, read_health_file
from agent.transport import HttpServer, Server

log = logging.getLogger(__name__)

TICK_SECONDS = 0.2


class AlreadyRunning(AgentError):
    """Another agent holds this state directory."""


class NotAccepted(AgentError):
    """The control plane does not want this device (any more)."""


class Agent:
    """One device. `start` locks and loads; `enrol`, `beat` and `work` are the steps that `run` repeats."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.directory = config.directory
        self.stopping = threading.Event()
        self.pending = False
        self.worker: threading.Thread | None = None
        self.installer: Installer | None = None
        self.worker_error: BaseException | None = None

    def start(self, *, resume: bool = True) -> None:
        """Lock the state directory and load what it holds. Raises `AlreadyRunning` or `BadState`."""
        for name in ("", "products", "blobs", "outbox", "requests"):
            files.make_directory(self.directory / name)
        self.lock = (self.directory / "lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyRunning(f"Another agent runs on {self.directory}.") from None
        self.identity = Identity.load_or_make(self.directory / "key")
        self.state = State.load(self.directory / "state.json")
        self.server: Server = HttpServer(self.config, self.identity, lambda: self.state.clock_offset_seconds)
        self.blobs = Blobs(self.directory / "blobs")
        self.outbox = Outbox(self.directory / "outbox")
        self.supervisors: dict[str, Supervisor] = {}
        if resume:
            self._resume()

    def _resume(self) -> None:
        """Start what was installed, and go on with the deployment that was under way."""
        job = Job.load(self._job_path)
        for product in Product.all(self.directory / "products"):
            if product.current and not (
                job and job.product == product.name and job.step in {"switching", "starting", "checking"}
            ):
                restore(product, product.current, self._supervisor(product))
        if job is not None:
            self.state.note_command(job.command_id)
            job.starts += 1
            job.save()
            self._begin(job)

    # -- enrolment

    def enrol(self) -> None:
        """Register this device, once for a server. Raises `Unreachable`, `NotAccepted` or `BadConfig`."""
        if self.state.device_id and self.state.server == self.config.server:
            return
        token = self.config.enrolment_token
        if not token:
            raise BadConfig("This device is not enrolled: set token or token_file to an enrolment token.")
        secret, _, root_sha256 = token.partition(".")
        body = {
            "token": secret,
            "public_key": self.identity.public_key,
            "device_type": self.config.device_type,
            "hardware": device.inventory(),
        }
        if self.config.name:
            body["name"] = self.config.name
        try:
            answer = self._call("POST", "/api/v1/devices/register", body)
        except Answered as error:
            raise NotAccepted(f"The server does not enrol this device: {error}") from error
        self.state.device_id = str(answer.get("device_id", ""))
        self.state.server = self.config.server
        self.state.root_sha256 = root_sha256
        self.state.interval_seconds = self._interval(answer)
        self.pending = answer.get("state") == "pending"
        self.state.save()
        log.info("Enrolled as %s (%s).", self.state.device_id, answer.get("state"))

    # -- heartbeat

    def beat(self) -> None:
        """One heartbeat, with everything its answer asks for begun. Raises `Unreachable` or `NotAccepted`."""
        acknowledged = list(self.state.unacknowledged)
        body = {
            "agent_version": __version__,
            "boot_id": device.boot_id(),
            "status": "busy" if self.worker is not None else "idle",
            "metrics": device.metrics(self.directory),
            "running_bundles": self.running_bundles(),
            "acknowledged_commands": acknowledged,
        }
        answer = self._send_beat(body)
        self.state.acknowledged(acknowledged)
        self.pending = answer.get("state") == "pending"
        interval = self._interval(answer)
        if interval != self.state.interval_seconds:
            self.state.interval_seconds = interval
            self.state.save()
        for command in answer.get("commands", []):
            self._obey(command)
        if not self.pending:
            self._report_inventory()

    def _send_beat(self, body: dict[str, Any]) -> dict[str, Any]:
        path = f"/api/v1/devices/{self.state.device_id}/heartbeat"
        for _ in range(3):
            try:
                return self._call("POST", path, body, self.state.take_sequence())
            except Answered as error:
                next_sequence = error.details.get("next_sequence")
                if error.code != "sequence_used" or not isinstance(next_sequence, int):
                    raise NotAccepted(f"The server refuses this device: {error}") from error
                self.state.jump_sequence(next_sequence)
        raise Unreachable("The sequence numbers of this device are in use elsewhere.")

    def _call(self, method: str, path: str, body: object, sequence: int | None = None) -> dict[str, Any]:
        """One call, and once more if it failed because of this device's clock."""
        try:
            return self.server.call(method, path, body, sequence)
        except Answered as error:
            if error.code != "clock_skew" or not self._learn_time(error.details.get("server_time")):
                raise
        return self.server.call(method, path, body, sequence)

    def _learn_time(self, told: object) -> bool:
        """Keep how far this device's clock is off, for signatures only; the clock itself is not touched."""
        try:
            server_time = datetime.fromisoformat(str(told).replace("Z", "+00:00"))
        except ValueError:
            return False
        self.state.clock_offset_seconds = (server_time - datetime.now(UTC)).total_seconds()
        self.state.save()
        log.warning(
            "This device's clock is off by %.0f s; signatures follow the server's.", self.state.clock_offset_seconds
        )
        return True

    def _interval(self, answer: dict[str, Any]) -> float:
        interval = answer.get("interval_seconds")
        if isinstance(interval, int | float) and 1 <= interval <= 86_400:
            return float(interval)
        return self.state.interval_seconds

    def _report_inventory(self) -> None:
        inventory = device.inventory()
        sha256 = hashlib.sha256(json.dumps(inventory, sort_keys=True).encode()).hexdigest()
        if sha256 == self.state.attributes_sha256:
            return
        version = self.state.attributes_version + 1
        path = f"/api/v1/devices/{self.state.device_id}/attributes"
        try:
            kept = self._call("PUT", path, {"version": version, "attributes": inventory}).get("version")
        except Answered as error:
            log.warning("The inventory was not taken: %s", error)
            return
        self.state.attributes_version = kept if isinstance(kept, int) else version
        if kept == version:
            self.state.attributes_sha256 = sha256
        self.state.save()

    def running_bundles(self) -> dict[str, Any]:
        """What runs on this device, and whether it is well."""
        running = {}
        for product in Product.all(self.directory / "products"):
            sha256 = product.current
            if not sha256:
                continue
            try:
                manifest = product.manifest(sha256)
            except (OSError, AgentError):
                continue
            supervisor = self._supervisor(product)
            said = None
            if manifest.health and manifest.health.file:
                said = read_health_file(product.state(sha256) / manifest.health.file)
            well = said.get("healthy") is True if said else supervisor.is_running or not manifest.run
            entry: dict[str, Any] = {"version": manifest.version, "manifest_sha256": sha256, "healthy": well}
            if said and isinstance(said.get("verdict"), dict):
                entry["verdict"] = said["verdict"]
            running[product.name] = entry
        return running

    # -- commands

    def _obey(self, command: Any) -> None:
        """Apply a command once; what was applied before, or cannot be understood, is only acknowledged."""
        if not isinstance(command, dict) or not isinstance(command.get("id"), int):
            return
        kind = command.get("kind")
        payload: Any = command.get("payload")
        if kind == "deploy" and self._job_path.exists():
            return  # one after the other: it is delivered again
        if self.state.has_seen(command["id"]):
            self.state.note_command(command["id"])
            return
        try:
            if kind == "deploy":
                # The job is on disk before the command is: an agent killed in between neither loses nor repeats it.
                job = Job.from_payload(self._job_path, payload, command["id"])
                job.save()
                self.state.note_command(command["id"])
                self._begin(job)
            elif kind == "cancel":
                self._cancel(str(payload["deployment_id"]), int(payload["attempt"]))
            elif kind == "roll_back":
                self.roll_back(str(payload["product"]))
            else:
                log.warning("The command %s is not known to this agent.", kind)
        except (KeyError, TypeError, ValueError) as error:
            log.error("The command %s is damaged: %s", kind, type(error).__name__)
        self.state.note_command(command["id"])

    def _cancel(self, deployment_id: str, attempt: int) -> None:
        job = self.installer.job if self.installer else None
        if job and (job.deployment_id, job.attempt) == (deployment_id, attempt) and self.installer:
            self.installer.cancel.set()
            return
        # Nothing is under way: say so, or the server would wait for its deadline.
        never = Job(self._job_path, deployment_id, attempt, "", "", "", 0, report=1, reason_code="cancelled")
        self.outbox.add(never, "cancelled")

    def roll_back(self, name: str) -> str:
        """Go back to the release before the current one; needs no network. Returns a sentence on what was done."""
        product = next((found for found in Product.all(self.directory / "products") if found.name == name), None)
        if product is None or not product.is_installed(product.previous):
            return f"{name} has no previous release on this device."
        if self.installer is not None and self.installer.product.name == name:
            return f"{name} is being deployed right now."
        supervisor = self._supervisor(product)
        supervisor.stop()
        current, previous = product.current, product.previous
        restore(product, previous, supervisor)
        product.point("previous", current)
        return f"{name} is back on {product.manifest(previous).version}."

    # -- work

    @property
    def _job_path(self) -> Path:
        return self.directory / "job.json"

    def _supervisor(self, product: Product) -> Supervisor:
        if product.name not in self.supervisors:
            self.supervisors[product.name] = Supervisor(self.config, product.root)
        return self.supervisors[product.name]

    def _begin(self, job: Job) -> None:
        product = Product(self.directory / "products" / job.product)
        product.make()
        self.installer = Installer(
            self.config, self.server, product, self._supervisor(product), self.blobs, self.outbox, job
        )
        self.worker = threading.Thread(target=self._install, name="installer")
        self.worker.start()

    def _install(self) -> None:
        try:
            if self.installer is not None:
                self.installer.work()
        except Stopped:
            log.info("The deployment goes on at the next start.")
        except BaseException as error:
            self.worker_error = error

    def tend(self) -> None:
        """Look after the worker, the programs, and what `rollback` on the command line asked for."""
        if self.worker is not None and not self.worker.is_alive():
            self.worker, self.installer = None, None
            if self.worker_error is not None:
                raise self.worker_error
        busy = self.installer.product.name if self.installer else None
        for name, supervisor in self.supervisors.items():
            if name != busy:
                supervisor.tend()
        for request in (self.directory / "requests").glob("rollback-*"):
            name = request.name.removeprefix("rollback-")
            request.unlink()
            log.info("%s", self.roll_back(name))

    def run(self) -> None:
        """Until `stopping` is set, whatever the server does: what is installed keeps running."""
        beats, reports = Backoff(self.config.max_retry_seconds), Backoff(self.config.max_retry_seconds)
        next_beat = next_report = time.monotonic()
        while not self.stopping.is_set():
            self.tend()
            now = time.monotonic()
            if now >= next_beat:
                next_beat = time.monotonic() + self._turn(beats)
            if now >= next_report and self.state.device_id and self.outbox.waiting():
                next_report = time.monotonic() + self._deliver(reports)
            self.stopping.wait(TICK_SECONDS)

    def _turn(self, backoff: Backoff) -> float:
        """Enrol if needed, and one heartbeat. Returns the pause until the next, in seconds."""
        try:
            self.enrol()
            self.beat()
        except Unreachable as error:
            pause = backoff.next(error.retry_after_seconds)
            log.warning("%s; next try in %.0f s.", error, pause)
            return pause
        except NotAccepted as error:
            log.error("%s; asking again in %.0f s.", error, self.config.max_retry_seconds)
            return self.config.max_retry_seconds
        backoff.reset()
        return self.state.interval_seconds

    def _deliver(self, backoff: Backoff) -> float:
        try:
            self.outbox.deliver(self.server)
        except (Unreachable, Answered) as error:
            log.warning("A report waits: %s", error)
            return backoff.next(getattr(error, "retry_after_seconds", None))
        backoff.reset()
        return 0.0

    def once(self) -> str:
        """One heartbeat and all the work that it asks for. Returns the outcome of a deployment, or an empty string."""
        self.enrol()
        self.beat()
        outcome = ""
        if self.worker is not None and self.installer is not None:
            job = self.installer.job
            while self.worker is not None:
                self.worker.join(TICK_SECONDS)
                self.tend()
            outcome = job.outcome
        if not self.pending:
            self.outbox.deliver(self.server)
            self.beat()
        return outcome

    def stop(self) -> None:
        """Let the worker come to a point where stopping is allowed, then end the programs."""
        self.stopping.set()
        if self.installer is not None:
            self.installer.stop.set()
        if self.worker is not None:
            self.worker.join()
        for supervisor in self.supervisors.values():
            supervisor.stop()
        self.lock.close()
