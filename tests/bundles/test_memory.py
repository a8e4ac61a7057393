"""Large files pass through a web server and a scheduler process in constant memory, with an interruption."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from dev.postgres import free_port
from tests.bundles.publisher import content_digest
from tests.live import ROOT, Live, own_database

PART = 16 * 1024**2
PARTS = 13  # 208 MiB
ALLOWED = 14 * 1024**2  # less than one part
VERIFY = """
import django, sys
django.setup()
from bundles.uploads.verification import verify_uploads
import bundles.uploads.verification
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
before = peak()
assert verify_uploads() == 1
print(peak() - before)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Live]:
    with own_database(is_migrated=True) as url:
        environment = {
            "DJANGO_SETTINGS_MODULE": "kernex.settings",
            "SECRET_KEY": "x" * 50,
            "DATABASE_URL": url,
            "STORAGE_DIR": str(tmp_path / "storage"),
        }
        live = Live(tmp_path, environment, free_port(), workers=1)
        live.prepare()
        live.start_web()
        try:
            yield live
        finally:
            live.stop()


def part(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest() * (PART // 32)


def peak(server: Live) -> int:
    """Return the peak memory of any process of the web server, in bytes."""
    assert server.web is not None
    children = Path(f"/proc/{server.web.pid}/task/{server.web.pid}/children").read_text().split()
    peaks = []
    for pid in children:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        peaks += [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")]
    return max(peaks)


def put(server: Live, upload: str, number: int) -> requests.Response:
    content = part(number)
    return requests.put(
        f"{server.url}/api/v1/uploads/{upload}/parts/{number}",
        data=content,
        headers={
            "Authorization": f"Bearer {server.tokens['publisher']}",
            "Content-Type": "application/octet-stream",
            "Content-Digest": content_digest(content),
        },
        timeout=60,
    )


def test_a_body_that_is_refused_unread_leaves_the_connection_usable(server: Live) -> None:
    headers = {"Authorization": f"Bearer {server.tokens['publisher']}"}
    with requests.Session() as session:
        session.headers.update(headers)
        for path, content_type in (
            ("uploads/%s/parts/1" % ("0" * 8 + "-0000-0000-0000-" + "0" * 12), "octet-stream"),
            ("bundles", "json"),
        ):
            kind = {"Content-Type": f"application/{content_type}", "Content-Digest": content_digest(b"")}
            method = "PUT" if "parts" in path else "POST"
            response = session.request(
                method, f"{server.url}/api/v1/{path}", data=b"x" * 17 * 1024**2, headers=kind, timeout=30
            )
            assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")
            assert session.get(f"{server.url}/api/v1/bundles", timeout=30).status_code == 200


def test_200_mb_need_constant_memory_and_survive_a_kill(server: Live) -> None:
    whole = hashlib.sha256()
    for number in range(1, PARTS + 1):
        whole.update(part(number))
    expected = {"sha256": whole.hexdigest(), "size": PARTS * PART}
    upload = server.call("POST", "/uploads", expected, "publisher").json()["id"]
    server.call("GET", f"/uploads/{upload}", role="publisher")  # loads what every request needs
    before = peak(server)
    for number in (PARTS, *range(1, 8)):
        assert put(server, upload, number).status_code == 200
    assert peak(server) - before < ALLOWED

    server.kill_web()
    server.start_web()
    again = server.call("POST", "/uploads", expected, "publisher").json()
    assert again["id"] == upload
    assert [line["number"] for line in again["parts"]] == [*range(1, 8), PARTS]
    for number in range(8, PARTS):
        assert put(server, upload, number).status_code == 200
    assert peak(server) - before < ALLOWED
    assert server.call("POST", f"/uploads/{upload}/complete", role="publisher").status_code == 202

    command = [sys.executable, "-c", VERIFY]
    scheduler = subprocess.run(command, env=server.environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert scheduler.returncode == 0, scheduler.stderr
    assert int(scheduler.stdout) < ALLOWED
    assert server.call("POST", "/uploads", expected, "publisher").json()["state"] == "stored"
