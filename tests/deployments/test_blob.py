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

import pytest
from django.core.signals import request_finished
from django.test import Client, RequestFactory
from pytest_django import DjangoAssertNumQueries

from bundles.models import Bundle
from deployments import blob_responses
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
def free_slot() -> Iterator[None]:
    yield
    assert blob_responses._slot.acquire(blocking=False), "a transfer was not closed"
    blob_responses._slot.release()


def fetch(device: SigningDevice, sha256: str, **headers: str) -> Any:
    return device.call("GET", f"/blobs/{sha256}", forge=headers)


def body(answer: Any) -> bytes:
    """All bytes; the test client closes the answer behind the last one."""
    return b"".join(answer) if answer.streaming else bytes(answer.content)


def cut(answer: Any) -> None:
    """Stop reading after the first bytes, as a server does whose client went away."""
    assert next(iter(answer))
    answer._iterator.close()


def test_it_sends_the_bytes(device: SigningDevice, big: Bundle) -> None:
    answer = fetch(device, BIG_SHA256)
    assert answer.status_code == 200
    assert answer["Content-Length"] == "300000"
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["ETag"] == f'"{BIG_SHA256}"'
    assert answer["Accept-Ranges"] == "bytes"
    assert body(answer) == BIG


@pytest.mark.parametrize(
    ("asked", "start", "end"),
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
def test_it_sends_a_range(device: SigningDevice, big: Bundle, asked: str, start: int, end: int) -> None:
    answer = fetch(device, BIG_SHA256, Range=asked)
    assert answer.status_code == 206
    assert answer["Content-Range"] == f"bytes {start}-{end - 1}/300000"
    assert answer["Content-Length"] == str(end - start)
    assert body(answer) == BIG[start:end]


@pytest.mark.parametrize("asked", ["bytes=300000-", "bytes=999999-1000000", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused(device: SigningDevice, big: Bundle, asked: str) -> None:
    answer = fetch(device, BIG_SHA256, Range=asked)
    assert answer.status_code == 416
    assert answer["Content-Range"] == "bytes */300000"
    assert (answer.json()["error"]["code"], answer.json()["error"]["size"]) == ("bad_range", 300000)


@pytest.mark.parametrize(
    "asked", ["bytes=", "bytes=-", "bytes=a-b", "bytes=0-1,5-9", "bytes=9-3", "lines=0-1", "bytes=0x1-", "bytes=٣-"]
)
def test_what_is_no_single_range_gets_the_whole(device: SigningDevice, big: Bundle, asked: str) -> None:
    answer = fetch(device, BIG_SHA256, Range=asked)
    assert answer.status_code == 200
    assert body(answer) == BIG


def test_a_part_of_something_else_is_not_continued(device: SigningDevice, big: Bundle) -> None:
    answer = fetch(device, BIG_SHA256, Range="bytes=1000-", **{"If-Range": '"another"'})
    assert (answer.status_code, body(answer)) == (200, BIG)
    answer = fetch(device, BIG_SHA256, Range="bytes=1000-", **{"If-Range": f'"{BIG_SHA256}"'})
    assert (answer.status_code, body(answer)) == (206, BIG[1000:])


def test_an_empty_blob_is_sent(device: SigningDevice) -> None:
    empty = make_bundle("vad@1.0.0", {"empty": b""}).files.get().sha256
    answer = fetch(device, empty)
    assert (answer.status_code, answer["Content-Length"], body(answer)) == (200, "0", b"")
    assert fetch(device, empty, Range="bytes=0-").status_code == 416


def test_a_second_transfer_is_told_to_come_back(device: SigningDevice, big: Bundle) -> None:
    first = fetch(device, BIG_SHA256)
    second = fetch(device, BIG_SHA256)
    assert (second.status_code, second.json()["error"]["code"]) == (503, "busy")
    assert int(second["Retry-After"]) > 0
    # What is small passes.
    small = fetch(device, BIG_SHA256, Range="bytes=0-99")
    assert (small.status_code, body(small)) == (206, BIG[:100])
    assert body(first) == BIG
    assert body(fetch(device, BIG_SHA256)) == BIG


def test_a_transfer_that_is_cut_frees_the_slot(device: SigningDevice, big: Bundle) -> None:
    answer = fetch(device, BIG_SHA256)
    cut(answer)
    assert body(fetch(device, BIG_SHA256)) == BIG


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the file is found open, too
def test_an_answer_that_nobody_sends_frees_the_slot(big: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    blob_responses.send(RequestFactory().get("/"), path.open("rb"), len(BIG), '"x"')
    gc.collect()
    assert not blob_responses._slot.locked()


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_collected_answer_ends_no_other_request(db: None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    ended: list[object] = []

    def note(**_: object) -> None:
        ended.append(1)

    request_finished.connect(note)
    try:
        answer: Any = blob_responses.send(RequestFactory().get("/"), path.open("rb"), len(BIG), '"x"')
        answer.file_to_stream.close = answer.close  # as Django's WSGI handler does
        del answer
        gc.collect()
    finally:
        request_finished.disconnect(note)
    assert (ended, blob_responses._slot.locked()) == ([], False)


def test_ten_at_once_get_one_slot(big: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    taken: list[Any] = []
    barrier = threading.Barrier(10)

    def begin() -> None:
        barrier.wait()
        with suppress(Unavailable):
            taken.append(blob_responses.send(RequestFactory().get("/"), path.open("rb"), len(BIG), '"x"'))

    threads = [threading.Thread(target=begin) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1
    taken[0].close()


def test_a_device_that_takes_nothing_is_cut_off(db: None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(BIG)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as connection:
        request = RequestFactory().get("/")
        request.META["gunicorn.socket"] = connection
        blob_responses.send(request, path.open("rb"), len(BIG), '"x"').close()
        timeout = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert timeout == blob_responses.STALLED_SECONDS * 1000


# -- Who may fetch what


def test_it_is_signed(client: Client, big: Bundle) -> None:
    answer = client.get(f"/api/v1/blobs/{BIG_SHA256}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "not_signed")


@pytest.mark.parametrize("state", ["pending", "decommissioned"])
def test_only_accepted_devices_fetch(device: SigningDevice, big: Bundle, state: str) -> None:
    Device.objects.filter(pk=device.id).update(state=state)
    answer = fetch(device, BIG_SHA256)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, state)


@pytest.mark.parametrize("state", ["draft", "verifying", "withdrawn"])
def test_what_is_not_ready_is_not_there(device: SigningDevice, state: str) -> None:
    sha256 = make_bundle("vad@1.0.0", state=state).files.get().sha256
    answer = fetch(device, sha256)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_blob")


def test_a_withdrawn_one_is_there_for_who_is_at_it(
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


def test_a_blob_of_no_bundle_is_not_there(device: SigningDevice) -> None:
    assert fetch(device, store_blob(b"an orphan")).status_code == 404


@pytest.mark.parametrize(
    "name", ["", "x", "A" * 64, "a" * 63, "a" * 65, "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%00" * 64]
)
def test_other_names_reach_no_file(device: SigningDevice, name: str) -> None:
    assert fetch(device, name).status_code in {401, 404}


def test_bytes_that_are_gone_are_not_found(device: SigningDevice, big: Bundle, storage: Path) -> None:
    (storage / "blobs" / BIG_SHA256[:2] / BIG_SHA256).unlink()
    answer = fetch(device, BIG_SHA256)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_blob")


def test_a_storage_with_addresses_is_pointed_to(
    device: SigningDevice, big: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere:
        def url(self, sha256: str) -> str:
            return f"https://storage.example.com/blobs/{sha256}?signed"

    monkeypatch.setattr("deployments.device_views.blobs", Elsewhere)
    answer = fetch(device, BIG_SHA256)
    assert answer.status_code == 302
    assert answer["Location"] == f"https://storage.example.com/blobs/{BIG_SHA256}?signed"


def test_it_takes_two_queries(
    device: SigningDevice, big: Bundle, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(2):  # the device, the blob
        cut(fetch(device, BIG_SHA256))


def test_other_methods_are_refused(device: SigningDevice, big: Bundle) -> None:
    assert device.call("HEAD", f"/blobs/{BIG_SHA256}").status_code == 405
    assert device.call("POST", f"/blobs/{BIG_SHA256}", {}).status_code == 405
