"""GET /api/v1/blobs/{sha256} redirects to the bucket if bundles are kept in a bucket."""

import os
import time
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from django.core.files.storage import storages
from django.test import Client
from pytest_django.fixtures import Settings

from bundles.storage import s3_blobs
from bundles.storage.interface import blobs
from bundles.storage.s3_client import Bucket
from tests.bundles.publisher import sha256
from tests.bundles.storage.conftest import SECRET, RemoteBucket, use_bucket
from tests.devices.signing import SigningDevice
from tests.factories import make_bundle, store_blob

CONTENT = os.urandom(100_000)
SHA256 = sha256(CONTENT)


def location(device: SigningDevice, sha256: str = SHA256) -> str:
    response = device.call("GET", f"/blobs/{sha256}")
    assert response.status_code == 302, response.content
    assert response.content == b""
    return str(response["Location"])


@pytest.fixture
def url(device: SigningDevice, bucket: Bucket) -> str:
    make_bundle("vad@1.0.0", {"model.onnx": CONTENT})
    return location(device)


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers=headers, timeout=20)


def test_devices_download_from_the_bucket(url: str) -> None:
    response = get(url)
    assert (response.status_code, response.content) == (200, CONTENT)


def test_a_download_resumes_from_a_byte(url: str) -> None:
    response = get(url, Range="bytes=60000-")
    assert (response.status_code, response.content) == (206, CONTENT[60_000:])


def test_the_url_is_valid_for_15_minutes_and_has_no_secret(url: str) -> None:
    query = parse_qs(urlsplit(url).query)
    assert query["X-Amz-Expires"] == ["900"]
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert SECRET not in url


def test_the_url_is_valid_for_reading_one_blob(url: str, device: SigningDevice, remote_bucket: RemoteBucket) -> None:
    other = make_bundle("vad@2.0.0", {"model.onnx": b"another"}).files.get().sha256
    key, expected = f"{SHA256[:2]}/{SHA256}", f"{other[:2]}/{other}"
    assert get(url.replace(key, expected)).status_code == 403
    assert get(url.replace("X-Amz-Expires=900", "X-Amz-Expires=901")).status_code == 403
    assert get(url.split("?")[0]).status_code == 403
    assert get(url[:-1] + ("0" if url[-1] != "0" else "1")).status_code == 403
    assert requests.put(url, data=b"mine", timeout=20).status_code == 403
    assert requests.delete(url, timeout=20).status_code == 403
    assert remote_bucket.get(f"blobs/{key}") == CONTENT


def test_a_url_expires(device: SigningDevice, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_blobs, "URL_SECONDS", 1)
    make_bundle("vad@1.0.0", {"model.onnx": CONTENT})
    url = location(device)
    deadline = time.monotonic() + 15
    while get(url).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert get(url).status_code == 403


@pytest.mark.parametrize("state", ["draft", "withdrawn"])
def test_only_blobs_of_ready_bundles_have_a_url(device: SigningDevice, bucket: Bucket, state: str) -> None:
    make_bundle("vad@1.0.0", {"model.onnx": CONTENT}, state=state)
    assert device.call("GET", f"/blobs/{SHA256}").status_code == 404


def test_only_devices_get_a_url(client: Client, url: str) -> None:
    assert client.get(f"/api/v1/blobs/{SHA256}").status_code == 401


def test_devices_get_the_public_url(device: SigningDevice, remote_bucket: RemoteBucket, settings: Settings) -> None:
    options = remote_bucket.options | {"public_endpoint_url": f"http://localhost:{remote_bucket.proxy.port}"}
    use_bucket(settings, options)
    make_bundle("vad@1.0.0", {"model.onnx": CONTENT})
    url = location(device)
    assert url.startswith(f"http://localhost:{remote_bucket.proxy.port}/")
    assert get(url).content == CONTENT


def test_an_open_blob_is_a_seekable_file(db: None, bucket: Bucket) -> None:
    store_blob(CONTENT)
    assert (blobs().exists(SHA256), blobs().size(SHA256), blobs().exists("0" * 64)) == (True, 100_000, False)
    with blobs().open(SHA256) as file:
        assert file.read(10) == CONTENT[:10]
        file.seek(-10, os.SEEK_END)
        assert file.read() == CONTENT[-10:]
        file.seek(5000)
        assert file.read() == CONTENT[5000:]
        assert file.read() == b""


def test_a_forked_process_creates_new_clients(bucket: Bucket) -> None:
    """Connections and locks of the parent must not be used after a fork."""
    assert blobs().exists("0" * 64) is False
    child = os.fork()
    if not child:
        status = 1
        try:
            before = set(bucket._clients)
            blobs().exists("0" * 64)
            status = 0 if set(bucket._clients) > before else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_threads_share_a_client(bucket: Bucket) -> None:
    assert storages["default"] is bucket
    assert bucket.client is bucket.client
    assert len(bucket._clients) == 1
