"""A publisher as a client of the API."""

import base64
import hashlib
from typing import Any

from django.test import Client

from bundles.uploads.verification import verify_bundles, verify_uploads


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def content_digest(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def manifest_of(contents: dict[str, bytes], **fields: Any) -> dict[str, Any]:
    """Return a manifest whose files have these contents."""
    files = [
        {"path": path, "sha256": sha256(content), "size": len(content), "mode": 0o644}
        for path, content in sorted(contents.items())
    ]
    return {"schema": 1, "name": "vad", "version": "1.0.0", "files": files, **fields}


class Publisher:
    """Calls the API with one token. Every method returns the response."""

    def __init__(self, client: Client, secret: str) -> None:
        self.client = client
        self.headers = {"Authorization": f"Bearer {secret}"} if secret else {}

    def get(self, path: str, **query: str) -> Any:
        return self.client.get(f"/api/v1/{path}", query, headers=self.headers)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        kind = {"content_type": "application/json"}
        return self.client.post(f"/api/v1/{path}", body, **(kind | options), headers=self.headers)

    def delete(self, path: str) -> Any:
        return self.client.delete(f"/api/v1/{path}", headers=self.headers)

    def draft(self, manifest: Any) -> Any:
        return self.post("bundles", {"manifest": manifest})

    def start(self, content: bytes, **fields: Any) -> Any:
        return self.post("uploads", {"sha256": sha256(content), "size": len(content), **fields})

    def put(self, upload: str, number: int, content: bytes, **headers: str) -> Any:
        return self.client.put(
            f"/api/v1/uploads/{upload}/parts/{number}",
            content,
            content_type="application/octet-stream",
            headers=self.headers | {"Content-Digest": content_digest(content)} | headers,
        )

    def upload(self, content: bytes) -> str:
        """Send all of one blob and complete it. Return the upload's id."""
        response = self.start(content).json()
        size = response["part_size"]
        for number, offset in enumerate(range(0, len(content), size), 1):
            assert self.put(response["id"], number, content[offset : offset + size]).status_code == 200
        assert self.post(f"uploads/{response['id']}/complete").status_code == 202
        return str(response["id"])

    def push(self, contents: dict[str, bytes], **fields: Any) -> Any:
        """Publish a bundle and verify it, so that it is ready. Return the response that shows it."""
        manifest = manifest_of(contents, **fields)
        assert self.draft(manifest).status_code == 201
        for content in set(contents.values()):
            self.upload(content)
        path = f"bundles/{manifest['name']}/{manifest['version']}"
        assert self.post(f"{path}/publish").status_code == 202
        verify_uploads()
        verify_bundles()
        return self.get(path)
