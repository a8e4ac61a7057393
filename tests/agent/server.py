"""A control plane in memory, with a real HTTP server: it implements docs/device-api.md and records the requests.

It verifies signatures with its own code. Before it handles a request, each of its `faults` may respond instead, like a
network, a proxy or a broken server.
"""

import json
import re
import threading
import time
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.agent.bundle import Bundle

TOKEN = "kxe_" + "t" * 43
TERMINAL_STATES = {"succeeded", "failed", "rolled_back", "rejected", "cancelled"}
PROGRESS_STATES = ["offered", "accepted", "downloading", "installing", "checking"]
_PARAMETERS = re.compile(r'kernex=(\(([^)]*)\);created=(\d+);keyid="([A-Za-z0-9_-]{43})";alg="ed25519")')


class Refusal(Exception):
    def __init__(self, status: int, code: str, **details: object) -> None:
        super().__init__(code)
        self.status = status
        self.error = {"code": code, "message": f"This is {code}.", **details}


@dataclass
class Request:
    """A received request. Faults call `respond` and `drop`."""

    handler: "Handler"
    method: str
    path: str
    body: bytes
    headers: Message
    at: float = field(default_factory=time.monotonic)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def respond(self, status: int, body: bytes, **headers: str) -> None:
        self.handler.respond(status, body, headers)

    def drop(self) -> None:
        """Close the connection without a response."""
        self.handler.close_connection = True


# Returns True if it handled the request.
Fault = Callable[[Request], bool]


@dataclass
class DeviceDeployment:
    """One device deployment. `reports` are the accepted reports, `late_reports` those after the end."""

    bundle: Bundle
    id: str = field(default_factory=lambda: str(uuid4()))
    attempt: int = 1
    state: str = "offered"
    last_number: int = 0
    reports: list[dict[str, Any]] = field(default_factory=list)
    late_reports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def last(self) -> dict[str, Any]:
        return self.reports[-1]

    @property
    def states(self) -> list[str]:
        """The reported states in order, each once."""
        return list(dict.fromkeys(report["state"] for report in self.reports))

    @property
    def is_finished(self) -> bool:
        return self.state in TERMINAL_STATES


@dataclass
class LogRequest:
    """A log request of an operator. `batches` are the bodies that were accepted, in order."""

    max_size: int
    state: str = "requested"
    batches: list[dict[str, Any]] = field(default_factory=list)

    @property
    def sources(self) -> list[str]:
        return list(dict.fromkeys(batch["source"] for batch in self.batches))

    def text(self, source: str | None = None) -> str:
        return "".join(batch["text"] for batch in self.batches if source in {None, batch["source"]})


class FakeServer:
    """A control plane for one device."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.interval_seconds = 1
        self.state = "accepted"
        self.tokens = {TOKEN}
        self.clock_offset = 0.0
        self.records_late_reports = True
        self.devices: dict[str, str] = {}
        self.sequence = 0
        self.last_signature = ""
        self.registrations: list[dict[str, Any]] = []
        self.heartbeats: list[dict[str, Any]] = []
        self.commands: list[dict[str, Any]] = []
        self.acknowledged: list[int] = []
        self.outcomes: dict[int, tuple[str, str]] = {}
        self.log_requests: dict[str, LogRequest] = {}
        self.bundles: dict[str, Bundle] = {}
        self.blobs: dict[str, bytes] = {}
        self.deployments: dict[str, DeviceDeployment] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"control_plane": self}))
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def publish(self, bundle: Bundle) -> None:
        with self.lock:
            self.bundles[bundle.sha256] = bundle
            self.blobs |= bundle.blobs

    def deploy(self, bundle: Bundle) -> DeviceDeployment:
        """Publish a bundle and queue a `deploy` command."""
        self.publish(bundle)
        deployment = DeviceDeployment(bundle)
        with self.lock:
            self.deployments[deployment.id] = deployment
            self.command("deploy", self.deploy_payload(deployment))
        return deployment

    def deploy_payload(self, deployment: DeviceDeployment) -> dict[str, Any]:
        bundle = {
            "name": deployment.bundle.name, "version": deployment.bundle.version,
            "manifest_sha256": deployment.bundle.sha256, "manifest_size": len(deployment.bundle.body),
        }  # fmt: skip
        deadline = "2099-01-01T00:00:00Z"
        return {
            "deployment_id": deployment.id,
            "attempt": deployment.attempt,
            "bundle": bundle,
            "deadline_at": deadline,
        }

    def cancel(self, deployment: DeviceDeployment) -> None:
        self.command("cancel", {"deployment_id": deployment.id, "attempt": deployment.attempt})

    def command(self, kind: str, payload: object) -> int:
        with self.lock:
            number = len(self.commands) + 1
            self.commands.append({"id": number, "kind": kind, "payload": payload})
        return number

    def request_logs(self, max_size: int = 1024 * 1024) -> LogRequest:
        """Queue a `send_logs` command."""
        request_id, log_request = str(uuid4()), LogRequest(max_size)
        with self.lock:
            self.log_requests[request_id] = log_request
            self.command("send_logs", {"request_id": request_id, "max_size": max_size})
        return log_request

    def requests_to(self, pattern: str) -> list[Request]:
        """Return the requests whose `METHOD /path` matches a pattern."""
        return [request for request in self.requests if re.search(pattern, f"{request.method} {request.path}")]

    @contextmanager
    def running(self) -> Iterator["FakeServer"]:
        thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.http.shutdown()
            thread.join()
            self.http.server_close()

    def handle(self, request: Request) -> tuple[int, dict[str, Any]] | bytes:
        """Return a status and a JSON object, or the bytes of a file."""
        path = request.path.removeprefix("/api/v1")
        key = self._verify(request, is_heartbeat=path.endswith("/heartbeat"))
        if path == "/devices/register":
            return self._register(key, request.json)
        if key not in self.devices:
            raise Refusal(401, "unknown_device")
        if self.state == "decommissioned":
            raise Refusal(403, "decommissioned")
        if match := re.fullmatch(r"/devices/([0-9a-f-]+)/heartbeat", path):
            return self._heartbeat(key, match[1], request)
        if self.state == "pending":
            raise Refusal(403, "pending")
        if path.endswith("/attributes"):
            return 200, {"version": request.json["version"]}
        if match := re.fullmatch(r"/devices/[0-9a-f-]+/log-requests/([0-9a-f-]+)/batches", path):
            return self._log_batch(match[1], request.json)
        if match := re.fullmatch(r"/deployments/([0-9a-f-]+)/result", path):
            return self._result(match[1], request.json)
        if match := re.fullmatch(r"/trust/targets/([^/]+)/([0-9a-f]{64})\.(.+)\.json", path):
            bundle = self.bundles.get(match[2])
            if bundle is None or (bundle.name, bundle.version) != (match[1], match[3]):
                raise Refusal(404, "unknown_manifest")
            return bundle.body
        if (match := re.fullmatch(r"/blobs/([0-9a-f]{64})", path)) and match[1] in self.blobs:
            return self.blobs[match[1]]
        raise Refusal(404, "unknown_blob")

    def _verify(self, request: Request, *, is_heartbeat: bool) -> str:
        headers = request.headers
        if "Signature" not in headers or "Signature-Input" not in headers:
            raise Refusal(401, "not_signed")
        match = _PARAMETERS.fullmatch(headers["Signature-Input"])
        if match is None:
            raise Refusal(401, "bad_signature")
        digest = "sha-256=:" + b64encode(sha256(request.body).digest()).decode() + ":"
        if headers["Content-Digest"] != digest:
            raise Refusal(401, "bad_digest")
        values = {
            "@method": request.method, "@authority": f"127.0.0.1:{self.port}", "@path": request.path, "@query": "?",
            "content-digest": digest,
        }  # fmt: skip
        if is_heartbeat:
            values["kernex-sequence"] = headers["Kernex-Sequence"]
        if match[2] != " ".join(f'"{name}"' for name in values):
            raise Refusal(401, "bad_signature")
        lines = [*(f'"{name}": {value}' for name, value in values.items()), f'"@signature-params": {match[1]}']
        key = Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(match[4] + "="))
        try:
            key.verify(b64decode(headers["Signature"][8:-1]), "\n".join(lines).encode())
        except InvalidSignature:
            raise Refusal(401, "bad_signature") from None
        now = time.time() + self.clock_offset
        if abs(now - int(match[3])) > 300:
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
            raise Refusal(401, "clock_skew", server_time=moment)
        return match[4]

    def _register(self, key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self.lock:
            self.registrations.append(body)
            if body["public_key"] != key:
                raise Refusal(400, "key_mismatch")
            if self.state == "decommissioned":
                raise Refusal(403, "decommissioned")
            is_new = key not in self.devices
            if is_new and body["token"] not in self.tokens:
                raise Refusal(403, "bad_token")
            self.devices.setdefault(key, str(uuid4()))
        response = {"device_id": self.devices[key], "state": self.state, "interval_seconds": self.interval_seconds}
        return (201 if is_new else 200), response

    def _heartbeat(self, key: str, device_id: str, request: Request) -> tuple[int, dict[str, Any]]:
        sequence, signature = int(request.headers["Kernex-Sequence"]), request.headers["Signature"]
        with self.lock:
            if self.devices[key] != device_id:
                raise Refusal(401, "unknown_device")
            if self.state == "pending":
                return 200, {"state": "pending", "interval_seconds": self.interval_seconds, "commands": []}
            if signature != self.last_signature:
                if sequence - self.sequence > 2**32:
                    raise Refusal(400, "sequence_jump")
                if sequence <= self.sequence:
                    raise Refusal(409, "sequence_used", next_sequence=self.sequence + 1)
                self.sequence, self.last_signature = sequence, signature
                self.heartbeats.append(request.json)
                self.acknowledged += request.json["acknowledged_commands"]
                for outcome in request.json.get("command_outcomes", []):
                    self.outcomes.setdefault(outcome["id"], (outcome["outcome"], outcome["message"]))
            commands = [command for command in self.commands if command["id"] not in self.acknowledged]
        return 200, {"state": self.state, "interval_seconds": self.interval_seconds, "commands": commands}

    def _log_batch(self, request_id: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        assert len(body["text"].encode()) <= 65_536
        assert "\x00" not in body["text"]
        with self.lock:
            log_request = self.log_requests.get(request_id)
            if log_request is None:
                raise Refusal(404, "not_found")
            count = len(log_request.batches)
            if body["batch"] <= count:
                assert body == log_request.batches[body["batch"] - 1], "two batches have the same number"
                return 200, {"next_batch": body["batch"] + 1}
            if log_request.state in {"complete", "failed", "expired"}:
                raise Refusal(409, "log_request_ended")
            if body["batch"] > count + 1:
                raise Refusal(409, "batch_gap", next_batch=count + 1)
            if len(log_request.text().encode()) + len(body["text"].encode()) > log_request.max_size:
                raise Refusal(413, "too_large")
            log_request.batches.append(body)
            log_request.state = "complete" if body["is_last"] else "collecting"
        return 200, {"next_batch": body["batch"] + 1}

    def _result(self, deployment_id: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self.lock:
            deployment = self.deployments.get(deployment_id)
            if deployment is None:
                raise Refusal(404, "not_found")
            if body["attempt"] < deployment.attempt:
                raise Refusal(409, "old_attempt", state=deployment.state)
            if body["report"] == deployment.last_number:
                assert body == deployment.last, "two reports have the same number"
                return 200, {"state": deployment.state}
            if deployment.is_finished or deployment.state == "timed_out":
                if body not in deployment.late_reports:
                    deployment.late_reports.append(body)
                if self.records_late_reports:
                    return 200, {"state": deployment.state}
                raise Refusal(409, "ended", state=deployment.state)
            if body["report"] > deployment.last_number:
                deployment.last_number = body["report"]
                deployment.reports.append(body)
                is_forward = body["state"] in TERMINAL_STATES or PROGRESS_STATES.index(
                    body["state"]
                ) > PROGRESS_STATES.index(deployment.state)
                deployment.state = body["state"] if is_forward else deployment.state
        return 200, {"state": deployment.state}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    control_plane: FakeServer

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        request = Request(self, self.command, self.path, body, self.headers)
        with self.control_plane.lock:
            self.control_plane.requests.append(request)
            faults = list(self.control_plane.faults)
        try:
            if not any(fault(request) for fault in faults):
                self.serve(request)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def serve(self, request: Request) -> None:
        """Respond without a fault."""
        try:
            response = self.control_plane.handle(request)
        except Refusal as refusal:
            self.respond(refusal.status, json.dumps({"error": refusal.error}).encode(), {})
            return
        if isinstance(response, bytes):
            self.respond_with_file(response)
        else:
            self.respond(response[0], json.dumps(response[1]).encode(), {"Content-Type": "application/json"})

    def respond_with_file(self, data: bytes) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        if match and start >= len(data):
            self.respond(416, b"{}", {"Content-Range": f"bytes */{len(data)}"})
        elif match:
            self.respond(206, data[start:], {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})
        else:
            self.respond(200, data, {})

    def respond(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("Content-Length", str(len(body))))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""
