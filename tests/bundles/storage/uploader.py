"""A publisher that puts parts into the bucket."""

import hashlib
from typing import Any

import requests

from bundles.models import Upload
from tests.bundles.publisher import Publisher, sha256


def part(number: int, content: bytes) -> dict[str, Any]:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return {"number": number, "sha256": sha256(content), "md5": md5}


class Uploader:
    """Sends blobs to the bucket; `api` calls the control plane."""

    def __init__(self, api: Publisher) -> None:
        self.api = api

    def start(self, content: bytes, part_size: int = 0) -> str:
        """Start an upload with parts of `part_size` bytes (0: the default). Return its id."""
        response = self.api.start(content).json()
        assert response["direct"] is True
        if part_size:
            Upload.objects.filter(pk=response["id"]).update(part_size=part_size)
        return str(response["id"])

    def part_url(self, upload: str, number: int, content: bytes) -> dict[str, Any]:
        response = self.api.post(f"uploads/{upload}/parts", {"parts": [part(number, content)]})
        assert response.status_code == 200, response.content
        part_url: dict[str, Any] = response.json()["addresses"][0]
        return part_url

    def put(self, part_url: dict[str, Any], content: bytes) -> requests.Response:
        return requests.put(part_url["url"], data=content, headers=part_url["headers"], timeout=20)

    def send(self, upload: str, number: int, content: bytes) -> None:
        response = self.put(self.part_url(upload, number, content), content)
        assert response.status_code == 200, response.text

    def send_all(self, upload: str, content: bytes) -> None:
        size = Upload.objects.get(pk=upload).part_size
        for number, offset in enumerate(range(0, len(content), size), 1):
            self.send(upload, number, content[offset : offset + size])

    def complete(self, upload: str) -> Any:
        return self.api.post(f"uploads/{upload}/complete")

    def upload(self, content: bytes, part_size: int = 0) -> str:
        """Send all parts of a blob and complete the upload. Return its id."""
        upload = self.start(content, part_size)
        self.send_all(upload, content)
        assert self.complete(upload).status_code == 202
        return upload
