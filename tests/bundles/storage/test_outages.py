"""Storage that is unreachable, hangs, refuses the key or is busy: what waits, what continues, what is reported."""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from bundles.models import Upload
from bundles.storage import s3_client
from bundles.storage.interface import blobs
from bundles.storage.s3_client import Bucket, translated
from bundles.uploads.verification import verify_uploads
from foundation.errors import ApiError, Unavailable
from tests.bundles.publisher import sha256
from tests.bundles.storage.conftest import RemoteBucket, use_bucket
from tests.bundles.storage.uploader import Uploader
from tests.devices.signing import SigningDevice
from tests.factories import make_bundle

CONTENT = os.urandom(5_000)


@pytest.fixture
def checked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check storage with every request."""
    monkeypatch.setattr(s3_client, "CHECK_EVERY_SECONDS", -1.0)
    monkeypatch.setattr(s3_client, "RECHECK_SECONDS", -1.0)


def test_uploads_and_downloads_wait_while_storage_is_unreachable(
    publisher: Uploader, device: SigningDevice, remote_bucket: RemoteBucket, checked_each_time: None, settings: Settings
) -> None:
    settings.STORAGE_BUCKET = remote_bucket.name
    make_bundle("vad@1.0.0", {"model": CONTENT})
    upload = publisher.start(b"started before")
    remote_bucket.proxy.cut()
    for response in (
        publisher.api.start(b"new"),
        publisher.api.post(f"uploads/{upload}/parts", {"parts": [{"number": 1, "sha256": "0" * 64, "md5": "0" * 32}]}),
        device.call("GET", f"/blobs/{sha256(CONTENT)}"),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (503, "storage_unavailable")
        assert int(response["Retry-After"]) == 5
    health = publisher.api.client.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    (problem,) = [problem for problem in health.json()["problems"] if problem["part"] == "storage"]
    assert "STORAGE_BUCKET" in problem["fix"]

    remote_bucket.proxy.restore()
    problems = publisher.api.client.get("/health").json()["problems"]
    assert "storage" not in [problem["part"] for problem in problems]
    assert device.call("GET", f"/blobs/{sha256(CONTENT)}").status_code == 302
    publisher.send(upload, 1, b"started before")
    assert publisher.complete(upload).status_code == 202


def test_heartbeats_continue_during_an_outage(
    device: SigningDevice, remote_bucket: RemoteBucket, bucket: Bucket
) -> None:
    remote_bucket.proxy.cut()
    assert device.heartbeat().status_code == 200
    remote_bucket.proxy.restore()
    remote_bucket.proxy.block()
    assert device.heartbeat().status_code == 200


def test_an_unverified_upload_waits_for_storage(publisher: Uploader, remote_bucket: RemoteBucket) -> None:
    upload = publisher.upload(CONTENT)
    remote_bucket.proxy.cut()
    with pytest.raises(Unavailable):
        verify_uploads()
    assert Upload.objects.get(pk=upload).state == "verifying"
    remote_bucket.proxy.restore()
    assert verify_uploads() == 1
    assert Upload.objects.get(pk=upload).state == "stored"


def test_hashing_resumes_after_a_cut(publisher: Uploader, remote_bucket: RemoteBucket) -> None:
    """The connection is cut in the middle of the object; the next run continues from there."""
    content = os.urandom(4_000_000)
    upload = publisher.upload(content)
    remote_bucket.proxy.cut_after(2_000_000)
    with pytest.raises(ApiError):
        verify_uploads()
    remote_bucket.proxy.restore()
    bytes_before = remote_bucket.proxy.down
    assert verify_uploads() == 1
    assert Upload.objects.get(pk=upload).state == "stored"
    assert remote_bucket.proxy.down - bytes_before < 3_000_000


def test_hanging_storage_delays_one_caller_only(
    bucket: Bucket, remote_bucket: RemoteBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_client, "PATIENCE_SECONDS", 0.5)
    remote_bucket.proxy.block()
    availability = bucket.availability
    with pytest.raises(Unavailable):
        availability.check()
    # While a check runs, no other check begins.
    thread = availability._thread
    assert thread is not None
    assert thread.is_alive()
    for _ in range(20):
        with pytest.raises(Unavailable):
            availability.check()
        assert availability._thread is thread
    remote_bucket.proxy.drop()
    remote_bucket.proxy.restore()
    thread.join(30)


@pytest.mark.parametrize(("option", "value"), [("secret_key", "wrong"), ("access_key", "AKNOBODY")])
def test_only_the_log_mentions_a_wrong_key(
    client: Client,
    remote_bucket: RemoteBucket,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    option: str,
    value: str,
) -> None:
    options = remote_bucket.options | {option: value}
    use_bucket(settings, options)
    with pytest.raises(Unavailable) as caught:
        blobs().has_space_for(1)
    assert value not in caught.value.message
    assert "bundles.storage.s3_client" in {record.name for record in caplog.records}
    with pytest.raises(Unavailable):
        blobs().exists("0" * 64)


def test_an_absent_bucket_is_not_a_missing_blob(remote_bucket: RemoteBucket, settings: Settings) -> None:
    options = remote_bucket.options | {"bucket_name": "absent"}
    use_bucket(settings, options)
    with pytest.raises(Unavailable):
        blobs().has_space_for(1)


class Busy(BaseHTTPRequestHandler):
    """Storage that always responds that it is busy."""

    request_count = 0

    def do_any(self) -> None:
        type(self).request_count += 1
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
        self.send_response(503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")

    do_GET = do_PUT = do_POST = do_HEAD = do_any  # noqa: N815 - the handler's names

    def log_message(self, *args: object) -> None:
        pass


def test_busy_storage_is_retried_and_then_reported(remote_bucket: RemoteBucket, settings: Settings) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = remote_bucket.options | {"endpoint_url": f"http://127.0.0.1:{server.server_port}"}
    bucket = use_bucket(settings, options)
    Busy.request_count = 0
    with pytest.raises(Unavailable) as caught, translated():
        bucket.client.create_multipart_upload(Bucket="any", Key="any")
    server.shutdown()
    server.server_close()
    assert (caught.value.code, caught.value.retry_after_seconds) == ("storage_busy", 5)
    assert Busy.request_count == 2
