"""GET /api/v1/blobs/{sha256}"""

import gc
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.signals import request_finished
from django.test import Client, RequestFactory
from pytest_django import DjangoAssertNumQueries

from bundles.models import Bundle
from deployments import blob_responses
from deployments.download_slots import SLOTS
from devices.models import Device
from foundation.errors import Unavailable
from tests.devices.signing import SigningDevice
from tests.factories import make_bundle, make_device_deployment, store_blob

BIG = os.urandom(300_000)
BIG_SHA256 = hashlib.sha256(BIG).hexdigest()


@pytest.fixture
def big(db: None) -> Bundle:
    return make_bundle("vad@1.0.0", {"model.onnx": BIG})


@pytest.fixture(autouse=True)
def every_slot_is_released() -> Iterator[None]:
    yield
    assert not SLOTS.devices, "a transfer was not closed"


def fetch(device: SigningDevice, sha256: str, **headers: str) -> Any:
    return device.call("GET", f"/blobs/{sha256}", forge=headers)


def body(response: Any) -> bytes:
    """Return all bytes. The test client closes the response after the last one."""
    return b"".join(response) if response.streaming else bytes(response.content)


def interrupt(response: Any) -> None:
    """Stop reading after the first bytes, as a server does whose client has disconnected."""
    assert next(iter(response))
    response._iterator.close()


def test_it_sends_the_bytes(device: SigningDevice, big: Bundle) -> None:
    response = fetch(device, BIG_SHA256)
    assert response.status_code == 200
    assert response["Content-Length"] == "300000"
    assert response["Content-Type"] == "application/octet-stream"
    assert response["ETag"] == f'"{BIG_SHA256}"'
    assert response["Accept-Ranges"] == "bytes"
    assert body(response) == BIG


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-", 0, 300_000),
        ("bytes=0-0", 0, 1),
        ("bytes=1000-", 1000, 300_000),
        ("bytes=1000-250999", 1000, 251_000),
        ("bytes=299999-", 299_999, 300_000),
        ("bytes=100-99999999999", 100, 300_000),
        ("bytes=-10", 299_990, 300_000),
        ("bytes=-999999999", 0, 300_000),
    ],
)
def test_it_sends_a_range(device: SigningDevice, big: Bundle, header: str, start: int, end: int) -> None:
    response = fetch(device, BIG_SHA256, Range=header)
    assert response.status_code == 206
    assert response["Content-Range"] == f"bytes {start}-{end - 1}/300000"
    assert response["Content-Length"] == str(end - start)
    assert body(response) == BIG[start:end]


@pytest.mark.parametrize("header", ["bytes=300000-", "bytes=999999-1000000", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused(device: SigningDevice, big: Bundle, header: str) -> None:
    response = fetch(device, BIG_SHA256, Range=header)
    assert response.status_code == 416
    assert response["Content-Range"] == "bytes */300000"
    assert (response.json()["error"]["code"], response.json()["error"]["size"]) == ("bad_range", 300000)


@pytest.mark.parametrize(
    "header", ["bytes=", "bytes=-", "bytes=a-b", "bytes=0-1,5-9", "bytes=9-3", "lines=0-1", "bytes=0x1-", "bytes=٣-"]
)
def test_other_range_headers_get_the_whole_blob(device: SigningDevice, big: Bundle, header: str) -> None:
    response = fetch(device, BIG_SHA256, Range=header)
    assert response.status_code == 200
    assert body(response) == BIG


def test_a_part_of_another_blob_is_not_continued(device: SigningDevice, big: Bundle) -> None:
    response = fetch(device, BIG_SHA256, Range="bytes=1000-", **{"If-Range": '"another"'})
    assert (response.status_code, body(response)) == (200, BIG)
    response = fetch(device, BIG_SHA256, Range="bytes=1000-", **{"If-Range": f'"{BIG_SHA256}"'})
    assert (response.status_code, body(response)) == (206, BIG[1000:])


def test_an_empty_blob_is_sent(device: SigningDevice) -> None:
    empty = make_bundle("vad@1.0.0", {"empty": b""}).files.get().sha256
    response = fetch(device, empty)
    assert (response.status_code, response["Content-Length"], body(response)) == (200, "0", b"")
    assert fetch(device, empty, Range="bytes=0-").status_code == 416


def test_a_device_gets_one_large_download_at_a_time(device: SigningDevice, big: Bundle) -> None:
    first = fetch(device, BIG_SHA256)
    second = fetch(device, BIG_SHA256)
    assert (second.status_code, second.json()["error"]["code"]) == (503, "busy")
    assert int(second["Retry-After"]) > 0
    small = fetch(device, BIG_SHA256, Range="bytes=0-99")
    assert (small.status_code, body(small)) == (206, BIG[:100])
    assert body(first) == BIG
    assert body(fetch(device, BIG_SHA256)) == BIG


def test_downloads_of_other_devices_continue_until_all_slots_are_in_use(
    device: SigningDevice, make_signing: Callable[..., SigningDevice], big: Bundle
) -> None:
    responses = [fetch(device, BIG_SHA256), *(fetch(make_signing(), BIG_SHA256) for _ in range(SLOTS.size))]
    assert [response.status_code for response in responses] == [200] * SLOTS.size + [503]
    for response in responses[:-1]:
        assert body(response) == BIG


def test_an_interrupted_download_releases_its_slot(device: SigningDevice, big: Bundle) -> None:
    response = fetch(device, BIG_SHA256)
    interrupt(response)
    assert body(fetch(device, BIG_SHA256)) == BIG


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the file was not closed either
def test_a_response_that_is_never_sent_releases_its_slot(big: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    blob_responses.send_blob(RequestFactory().get("/"), path.open("rb"), len(BIG), '"x"', uuid4())
    gc.collect()
    assert not SLOTS.devices


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_collecting_a_response_ends_no_other_request(db: None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    ended: list[object] = []

    def record_end(**_: object) -> None:
        ended.append(1)

    request_finished.connect(record_end)
    try:
        response: Any = blob_responses.send_blob(RequestFactory().get("/"), path.open("rb"), len(BIG), '"x"', uuid4())
        response.file_to_stream.close = response.close  # as Django's WSGI handler does
        del response
        gc.collect()
    finally:
        request_finished.disconnect(record_end)
    assert (ended, SLOTS.devices) == ([], set())


def test_concurrent_downloads_do_not_exceed_the_slots(big: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    responses: list[Any] = []
    barrier = threading.Barrier(10)

    def start_download() -> None:
        barrier.wait()
        with suppress(Unavailable):
            responses.append(
                blob_responses.send_blob(RequestFactory().get("/"), path.open("rb"), len(BIG), '"x"', uuid4())
            )

    threads = [threading.Thread(target=start_download) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(responses) == SLOTS.size
    for response in responses:
        response.close()


def test_the_kernel_drops_a_device_that_acknowledges_nothing(db: None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as connection:
        request = RequestFactory().get("/")
        request.META["gunicorn.socket"] = connection
        blob_responses.send_blob(request, path.open("rb"), len(BIG), '"x"', uuid4()).close()
        timeout = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert timeout == blob_responses.STALLED_SECONDS * 1000


def test_unsigned_requests_are_refused(client: Client, big: Bundle) -> None:
    response = client.get(f"/api/v1/blobs/{BIG_SHA256}")
    assert (response.status_code, response.json()["error"]["code"]) == (401, "not_signed")


@pytest.mark.parametrize("state", ["pending", "decommissioned"])
def test_only_accepted_devices_may_fetch(device: SigningDevice, big: Bundle, state: str) -> None:
    Device.objects.filter(pk=device.id).update(state=state)
    response = fetch(device, BIG_SHA256)
    assert (response.status_code, response.json()["error"]["code"]) == (403, state)


@pytest.mark.parametrize("state", ["draft", "verifying", "withdrawn"])
def test_files_of_bundles_that_are_not_ready_are_not_found(device: SigningDevice, state: str) -> None:
    sha256 = make_bundle("vad@1.0.0", state=state).files.get().sha256
    response = fetch(device, sha256)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_blob")


def test_only_active_devices_may_fetch_a_withdrawn_bundle(
    device: SigningDevice, make_signing: Callable[..., SigningDevice], bundle: Bundle
) -> None:
    make_device_deployment("downloading", device=Device.objects.get(pk=device.id), bundle=bundle)
    other = make_signing()
    make_device_deployment("succeeded", device=Device.objects.get(pk=other.id), bundle=bundle)
    sha256 = bundle.files.get().sha256
    assert body(fetch(other, sha256)) == b"a model"
    Bundle.objects.update(state="withdrawn")
    assert body(fetch(device, sha256)) == b"a model"
    assert fetch(other, sha256).status_code == 404


def test_a_blob_without_a_bundle_is_not_found(device: SigningDevice) -> None:
    assert fetch(device, store_blob(b"an orphan")).status_code == 404


@pytest.mark.parametrize(
    "name", ["", "x", "A" * 64, "a" * 63, "a" * 65, "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%00" * 64]
)
def test_other_names_reach_no_file(device: SigningDevice, name: str) -> None:
    assert fetch(device, name).status_code in {401, 404}


def test_a_blob_whose_bytes_are_lost_is_not_found(device: SigningDevice, big: Bundle, storage: Path) -> None:
    (storage / "blobs" / BIG_SHA256[:2] / BIG_SHA256).unlink()
    response = fetch(device, BIG_SHA256)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_blob")


def test_a_storage_with_urls_is_redirected_to(
    device: SigningDevice, big: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StorageWithUrls:
        def url(self, sha256: str) -> str:
            return f"https://storage.example.com/blobs/{sha256}?signed"

    monkeypatch.setattr("deployments.device_views.blobs", StorageWithUrls)
    response = fetch(device, BIG_SHA256)
    assert response.status_code == 302
    assert response["Location"] == f"https://storage.example.com/blobs/{BIG_SHA256}?signed"


def test_a_download_costs_three_queries(
    device: SigningDevice, big: Bundle, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(3):  # the device, its rate limit, the blob
        interrupt(fetch(device, BIG_SHA256))


def test_other_methods_are_refused(device: SigningDevice, big: Bundle) -> None:
    assert device.call("HEAD", f"/blobs/{BIG_SHA256}").status_code == 405
    assert device.call("POST", f"/blobs/{BIG_SHA256}", {}).status_code == 405
