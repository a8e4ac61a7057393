"""A fake control plane that speaks HTTP, for tests of faults that a real one does not produce on demand.

It keeps bundles and uploads in memory, by the rules of the real one. Faults take precedence over its usual responses.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "kxa_fake"
Response = tuple[int, Any] | tuple[int, Any, dict[str, str]]
CUT: Response = (0, None)  # close the connection without a response


class FakeServer:
    """`requests` lists every request as `METHOD path`. `responses` maps `METHOD path` to a document, or to a list
    of documents that are returned one after the other.

    A fault is a function that maps a request to a response, or to None for the usual response.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.part_size = 1000
        self.is_direct = False
        self.requests: list[str] = []
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.faults: list[Callable[[str], Response | None]] = []
        self.responses: dict[str, Any] = {}
        self.blobs: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.sizes: dict[str, int] = {}
        self.bundles: dict[str, dict[str, Any]] = {}
        self.lock = threading.Lock()

    def count(self, prefix: str) -> int:
        return sum(request.startswith(prefix) for request in self.requests)

    def fail(self, prefix: str, *responses: Response) -> None:
        """Return `responses`, one each, for the next requests that start with `prefix`."""
        remaining = list(responses)

        def fault(call: str) -> Response | None:
            return remaining.pop(0) if remaining and call.startswith(prefix) else None

        self.faults.append(fault)

    def respond(self, call: str, body: bytes, headers: dict[str, str]) -> Response:
        method, _, target = call.partition(" ")
        path = urlsplit(target).path.removeprefix("/api/v1")
        for fault in self.faults:
            if (response := fault(call)) is not None:
                return response
        if path.startswith("/storage/"):
            return self._storage(path.split("/"), body, headers)
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return error(401, "bad_token", "The API token is unknown, expired or revoked.")
        if f"{method} {path}" in self.responses:
            documents = self.responses[f"{method} {path}"]
            return 200, documents.pop(0) if isinstance(documents, list) else documents
        segments = path.strip("/").split("/")
        if segments[0] == "bundles":
            return self._bundles(method, segments, body)
        if segments[0] == "uploads":
            return self._uploads(method, segments, body, headers)
        return error(404, "not_found", "There is nothing here.")

    def _bundles(self, method: str, segments: list[str], body: bytes) -> Response:
        if len(segments) == 1:
            manifest = json.loads(body)["manifest"]
            bundle = self.bundles.setdefault(
                f"{manifest['name']}@{manifest['version']}", {"manifest": manifest, "state": "draft"}
            )
            if bundle["manifest"] != manifest:
                return error(409, "version_exists", "It exists with another manifest.")
            return 201, self._document(bundle)
        bundle = self.bundles["@".join(segments[1:3])]
        if segments[3:] == ["publish"]:
            bundle["state"] = "draft" if self._document(bundle)["missing"] else "ready"
        return 200, self._document(bundle)

    def _document(self, bundle: dict[str, Any]) -> dict[str, Any]:
        manifest = bundle["manifest"]
        sizes = {file["sha256"]: file["size"] for file in manifest["files"]}
        missing = [{"sha256": sha256, "size": size} for sha256, size in sizes.items() if sha256 not in self.blobs]
        return {
            "name": manifest["name"], "version": manifest["version"], "state": bundle["state"], "state_reason": "",
            "file_count": len(manifest["files"]), "size": sum(file["size"] for file in manifest["files"]),
            "missing": missing,
        }  # fmt: skip

    def _uploads(self, method: str, segments: list[str], body: bytes, headers: dict[str, str]) -> Response:
        if len(segments) == 1:
            request = json.loads(body)
            sha256 = request["sha256"]
            if sha256 in self.blobs:
                return 200, {"id": None, "state": "stored", "part_size": self.part_size, "parts": []}
            self.sizes[sha256] = request["size"]
            parts = self.uploads.setdefault(sha256, {})
            stored = [{"number": n, "sha256": hashlib.sha256(part).hexdigest()} for n, part in sorted(parts.items())]
            direct: dict[str, Any] = {}
            if self.is_direct:
                direct = {"direct": True, "addresses": self._urls(sha256, request.get("parts", []))}
            return 201, {"id": sha256, "state": "open", "part_size": self.part_size, "parts": stored, **direct}
        sha256 = segments[1]
        if segments[2:] == ["parts"]:
            return 200, {"addresses": self._urls(sha256, json.loads(body)["parts"])}
        if segments[2:] == ["complete"]:
            content = b"".join(part for _, part in sorted(self.uploads[sha256].items()))
            if len(content) != self.sizes[sha256]:
                return error(409, "parts_missing", "Parts are missing.")
            if hashlib.sha256(content).hexdigest() == sha256:
                self.blobs[sha256] = content
            return 202, {"state": "verifying"}
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        if headers["Content-Digest"] != f"sha-256=:{digest}:":
            return error(400, "bad_digest", "The part's bytes do not match its Content-Digest: send it again.")
        self.uploads[sha256][int(segments[3])] = body
        return 200, {"number": int(segments[3])}

    def _urls(self, sha256: str, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {"number": part["number"], "url": f"{self.url}/storage/{sha256}/{part['number']}",
             "headers": {"Content-MD5": base64.b64encode(bytes.fromhex(part["md5"])).decode()}}
            for part in parts
        ]  # fmt: skip

    def _storage(self, segments: list[str], body: bytes, headers: dict[str, str]) -> Response:
        """The storage behind presigned URLs. It refuses requests with credentials."""
        md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        if "Authorization" in headers or headers["Content-MD5"] != md5:
            return 400, b"<Error><Code>BadDigest</Code></Error>"
        self.uploads[segments[2]][int(segments[3])] = body
        return 200, b""


def error(status: int, code: str, message: str) -> Response:
    return status, {"error": {"code": code, "message": message}}


@contextmanager
def serve() -> Iterator[FakeServer]:
    """A fake server on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_any(self) -> None:
            call = f"{self.command} {self.path}"
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with fake.lock:
                fake.requests.append(call)
                fake.bodies.append(body)
                fake.headers.append(dict(self.headers))
                status, document, *more = fake.respond(call, body, dict(self.headers))
            if not status:
                self.close_connection = True
                return
            self.reply(status, document, more[0] if more else {})

        def reply(self, status: int, document: Any, headers: dict[str, str]) -> None:
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_any  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    fake = FakeServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
