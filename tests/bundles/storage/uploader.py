"""A publisher who puts parts into the bucket."""

import hashlib
from typing import Any

import requests

from bundles.models import Upload
from tests.bundles.publisher import Publisher, sha256


def part(number: int, content: bytes) -> dict[str, Any]:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return {"number": number, "sha256": sha256(content), "md5": md5}


class Uploader:
    """`api` talks to the control plane."""

    def __init__(self, api: Publisher) -> None:
        self.api = api

    def start(self, content: bytes, part_size: int = 0) -> str:
        """Start an upload, with parts of another size than usual. Returns its id."""
        answer = self.api.start(content).json()
        assert answer["direct"] is True
        if part_size:
            Upload.objects.filter(pk=answer["id"]).update(part_size=part_size)
        return str(answer["id"])

    def address(self, upload: str, number: int, content: bytes) -> dict[str, Any]:
        answer = self.api.post(f"uploads/{upload}/parts", {"parts": [part(number, content)]})
        assert answer.status_code == 200, answer.content
        address: dict[str, Any] = answer.json()["addresses"][0]
        return address

    def put(self, address: dict[str, Any], content: bytes) -> requests.Response:
        return requests.put(address["url"], data=content, headers=address["headers"], timeout=20)

    def send(self, upload: str, number: int, content: bytes) -> None:
        answer = self.put(self.address(upload, number, content), content)
        assert answer.status_code == 200, answer.text

    def send_all(self, upload: str, content: bytes) -> None:
        size = Upload.objects.get(pk=upload).part_size
        for number, offset in enumerate(range(0, len(content), size), 1):
            self.send(upload, number, content[offset : offset + size])

    def complete(self, upload: str) -> Any:
        return self.api.post(f"uploads/{upload}/complete")

    def upload(self, content: bytes, part_size: int = 0) -> str:
        """All of one blob, completed. Returns the upload's id."""
        upload = self.start(content, part_size)
        self.send_all(upload, content)
        assert self.complete(upload).status_code == 202
        return upload
