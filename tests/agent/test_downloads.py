"""Downloads over networks that interrupt, change, redirect or stall them."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent import bundle, faults
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer, Fault, Request

BIG = os.urandom(3_000_000)
WANTED = bundle.data("1", {"big": BIG, "small": "s"})
BLOB = f"/blobs/{bundle.sha256(BIG)}"


def ranges(server: FakeServer) -> list[str]:
    return [request.headers.get("Range", "") for request in server.requests_to(BLOB)]


def test_a_download_resumes_where_the_connection_was_cut(server: FakeServer, device: Device) -> None:
    server.faults.append(faults.on(BLOB, faults.cut_after(1_000_000), times=2))
    deployment = server.deploy(WANTED)
    device.once()
    assert deployment.state == "succeeded"
    assert ranges(server) == ["", "bytes=1000000-", "bytes=2000000-"]
    device.assert_consistent()


@pytest.mark.parametrize("fault", [faults.drop, faults.reset, faults.status(503, Retry_After="1"), faults.status(500)])
def test_a_download_is_retried_while_the_server_is_down(server: FakeServer, device: Device, fault: Fault) -> None:
    server.faults.append(faults.on("GET ", fault, times=3))
    deployment = server.deploy(WANTED)
    device.once()
    assert deployment.state == "succeeded"
    device.assert_consistent()


def test_a_download_waits_as_long_as_the_server_asks(server: FakeServer, device: Device) -> None:
    server.faults.append(faults.on(BLOB, faults.status(503, Retry_After="3"), times=1))
    deployment = server.deploy(WANTED)
    device.once()
    first, second = server.requests_to(BLOB)
    assert second.at - first.at >= 3
    assert deployment.state == "succeeded"


@pytest.mark.parametrize(
    "transform",
    [faults.flip, lambda data: data + b"more", lambda data: b"", lambda data: b"<html>login</html>"],
    ids=["flipped", "longer", "empty", "another"],
)
def test_wrong_bytes_are_fetched_again(server: FakeServer, device: Device, transform: Callable[[bytes], bytes]) -> None:
    server.faults.append(faults.on(BLOB, faults.change(transform), times=2))
    deployment = server.deploy(WANTED)
    device.once()
    assert deployment.state == "succeeded"
    device.assert_consistent()


def test_a_blob_that_stays_wrong_fails_the_installation(server: FakeServer, device: Device) -> None:
    server.faults.append(faults.on(BLOB, faults.change(faults.flip)))
    deployment = server.deploy(WANTED)
    device.once(exit_code=9)
    assert (deployment.state, deployment.last["reason_code"]) == ("failed", "bad_blob")
    assert len(server.requests_to(BLOB)) == 3
    device.assert_consistent()


def test_a_missing_blob_fails_the_installation(server: FakeServer, device: Device) -> None:
    deployment = server.deploy(WANTED)
    del server.blobs[bundle.sha256(BIG)]
    device.once(exit_code=9)
    assert (deployment.state, deployment.last["reason_code"]) == ("failed", "download_failed")
    device.assert_consistent()


def test_a_download_restarts_if_the_server_ignores_ranges(server: FakeServer, device: Device) -> None:
    server.faults.append(faults.on(BLOB, faults.cut_after(1_000_000), times=1))
    server.faults.append(faults.on(BLOB, faults.change(lambda data: data), times=1))
    deployment = server.deploy(WANTED)
    device.once()
    assert deployment.state == "succeeded"
    device.assert_consistent()


def test_a_range_with_a_wrong_start_is_rejected(server: FakeServer, device: Device) -> None:
    shifted = faults.status(206, BIG[5:], Content_Range=f"bytes 5-{len(BIG) - 1}/{len(BIG)}")
    server.faults.append(faults.on(BLOB, faults.cut_after(1_000_000), times=1))
    server.faults.append(faults.on(BLOB, shifted, times=1))
    deployment = server.deploy(WANTED)
    device.once()
    assert deployment.state == "succeeded"
    assert ranges(server) == ["", "bytes=1000000-", ""]
    device.assert_consistent()


def test_a_download_resumes_after_the_agent_was_killed(server: FakeServer, device: Device) -> None:
    released = threading.Event()
    deployment = server.deploy(WANTED)
    server.faults.append(faults.on(BLOB, faults.cut_after(1_000_000), times=1))
    server.faults.append(faults.on(BLOB, faults.hang(released), times=1))
    device.start()
    wait_for(lambda: len(server.requests_to(BLOB)) == 2)
    device.kill()
    released.set()
    device.once()
    assert deployment.state == "succeeded"
    assert ranges(server) == ["", "bytes=1000000-", "bytes=1000000-"]
    device.assert_consistent()


def test_a_damaged_part_is_downloaded_again(server: FakeServer, device: Device) -> None:
    released = threading.Event()
    deployment = server.deploy(WANTED)
    server.faults.append(faults.on(BLOB, faults.cut_after(1_000_000), times=1))
    server.faults.append(faults.on(BLOB, faults.hang(released), times=1))
    device.start()
    wait_for(lambda: len(server.requests_to(BLOB)) == 2)
    device.kill()
    released.set()
    part = device.state_dir / "blobs" / f"{bundle.sha256(BIG)}.part"
    part.write_bytes(faults.flip(part.read_bytes()))
    device.once()
    assert deployment.state == "succeeded"
    device.assert_consistent()


def test_a_download_survives_repeated_graceful_stops(server: FakeServer, device: Device) -> None:
    server.faults.append(faults.on(BLOB, slowly(BIG)))
    deployment = server.deploy(WANTED)
    for _ in range(4):
        before = len(server.requests_to(BLOB))
        device.start()
        wait_for(lambda before=before: len(server.requests_to(BLOB)) > before)  # type: ignore[misc]
        time.sleep(0.3)
        started_at = time.monotonic()
        assert device.stop() == 0
        assert time.monotonic() - started_at < 5
    server.faults.clear()
    device.once()
    assert deployment.state == "succeeded", device.log_text()
    device.assert_consistent()


def slowly(data: bytes, seconds: float = 20) -> Fault:
    """Send a file in small pieces."""

    def fault(request: Request) -> bool:
        handler = request.handler
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        for position in range(start, len(data), 20_000):
            handler.wfile.write(data[position : position + 20_000])
            time.sleep(seconds * 20_000 / len(data))
        return True

    return fault


def test_heartbeats_and_progress_continue_during_a_download(server: FakeServer, device: Device) -> None:
    device.options["PROGRESS_SECONDS"] = "1"
    server.faults.append(faults.on(BLOB, slowly(BIG, seconds=6)))
    deployment = server.deploy(WANTED)
    device.start()
    device.wait_for_end(deployment)
    started_at = server.requests_to(BLOB)[0].at
    during = [request for request in server.requests_to("/heartbeat") if started_at < request.at < started_at + 5.5]
    assert len(during) >= 4
    done = [report["progress"]["bytes_done"] for report in deployment.reports if "progress" in report]
    assert len(done) >= 4
    assert done == sorted(done)
    assert deployment.state == "succeeded"


def test_a_cancel_stops_a_running_download(server: FakeServer, device: Device) -> None:
    server.faults.append(faults.on(BLOB, slowly(BIG, seconds=60)))
    deployment = server.deploy(WANTED)
    device.start()
    wait_for(lambda: server.requests_to(BLOB))
    server.cancel(deployment)
    last = device.wait_for_end(deployment, seconds=5)
    assert (last["state"], last["reason_code"]) == ("cancelled", "cancelled")
    wait_for(lambda: 2 in server.acknowledged)
    assert device.stop() == 0
    device.assert_consistent()


def test_a_download_stops_when_the_server_ends_the_deployment(server: FakeServer, device: Device) -> None:
    device.options["PROGRESS_SECONDS"] = "1"
    server.faults.append(faults.on(BLOB, slowly(BIG, seconds=60)))
    deployment = server.deploy(WANTED)
    device.start()
    wait_for(lambda: server.requests_to(BLOB))
    deployment.state = "timed_out"
    wait_for(lambda: not device.state.jobs, 10, device.log_text)
    assert device.stop() == 0
    assert "succeeded" not in deployment.states
    device.assert_consistent()


def test_a_redirect_is_followed_without_credentials(server: FakeServer, device: Device) -> None:
    with FakeServer().running() as storage:
        storage.faults.append(faults.on("GET /bucket", faults.status(200, BIG)))
        storage_url = f"{storage.url}/bucket/key?signature=secret"
        server.faults.append(faults.on(BLOB, faults.status(302, b"", Location=storage_url)))
        deployment = server.deploy(WANTED)
        device.once()
        (request,) = storage.requests_to("/bucket")
    assert deployment.state == "succeeded"
    sent = {name.lower() for name in request.headers}
    assert sent <= {"host", "user-agent", "accept-encoding", "connection"}


def test_a_redirect_keeps_the_range(server: FakeServer, device: Device) -> None:
    with FakeServer().running() as storage:
        rest = faults.status(206, BIG[1_000_000:], Content_Range=f"bytes 1000000-{len(BIG) - 1}/{len(BIG)}")
        storage.faults.append(faults.on("GET /bucket", rest))
        server.faults.append(faults.on(BLOB, faults.cut_after(1_000_000), times=1))
        server.faults.append(faults.on(BLOB, faults.status(302, b"", Location=f"{storage.url}/bucket")))
        deployment = server.deploy(WANTED)
        device.once()
        headers = storage.requests_to("/bucket")[0].headers
        assert headers["Range"] == "bytes=1000000-"
        # Storage would compare it with its own ETag, and send the complete file.
        assert "If-Range" not in headers
    assert deployment.state == "succeeded"


def test_an_expired_url_is_requested_again(server: FakeServer, device: Device) -> None:
    with FakeServer().running() as storage:
        storage.faults.append(faults.on("GET /bucket", faults.status(403, b"<Error>Expired</Error>"), times=1))
        storage.faults.append(faults.on("GET /bucket", faults.status(200, BIG)))
        server.faults.append(faults.on(BLOB, faults.status(302, b"", Location=f"{storage.url}/bucket")))
        deployment = server.deploy(WANTED)
        device.once()
    assert deployment.state == "succeeded"
    assert len(server.requests_to(BLOB)) == 2


def test_a_blob_missing_from_storage_fails_the_installation(server: FakeServer, device: Device) -> None:
    with FakeServer().running() as storage:
        storage.faults.append(faults.on("GET /bucket", faults.status(404, b"<Error>NoSuchKey</Error>")))
        server.faults.append(faults.on(BLOB, faults.status(302, b"", Location=f"{storage.url}/bucket")))
        deployment = server.deploy(WANTED)
        device.once(exit_code=9)
    assert (deployment.state, deployment.last["reason_code"]) == ("failed", "download_failed")
    device.assert_consistent()


@pytest.mark.parametrize(
    "location", ["http://storage.example.com/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "//example.com/x", ""]
)
def test_a_redirect_to_a_host_without_tls_is_not_followed(server: FakeServer, device: Device, location: str) -> None:
    server.faults.append(faults.on(BLOB, faults.status(302, b"", Location=location), times=2))
    deployment = server.deploy(WANTED)
    device.once()
    assert deployment.state == "succeeded"
    assert len(server.requests_to(BLOB)) == 3


def test_a_second_redirect_is_not_followed(server: FakeServer, device: Device) -> None:
    with FakeServer().running() as storage:
        storage.faults.append(faults.on("GET", faults.status(302, b"", Location=f"{storage.url}/again")))
        server.faults.append(faults.on(BLOB, faults.status(302, b"", Location=f"{storage.url}/first"), times=1))
        deployment = server.deploy(WANTED)
        device.once()
        assert [request.path for request in storage.requests] == ["/first"]
    assert deployment.state == "succeeded"


def test_a_compressed_response_is_not_decompressed(server: FakeServer, device: Device) -> None:
    compressed = faults.status(200, b"\x1f\x8b" + bytes(100), Content_Encoding="gzip")
    server.faults.append(faults.on(BLOB, compressed, times=1))
    deployment = server.deploy(WANTED)
    device.once()
    assert server.requests_to(BLOB)[0].headers["Accept-Encoding"] == "identity"
    assert deployment.state == "succeeded"


def test_a_stalled_connection_is_replaced(server: FakeServer, device: Device) -> None:
    device.options["READ_TIMEOUT_SECONDS"] = "1"
    released = threading.Event()
    server.faults.append(faults.on(BLOB, faults.hang(released), times=1))
    deployment = server.deploy(WANTED)
    device.once()
    released.set()
    assert deployment.state == "succeeded"


def test_a_forged_manifest_is_refused(server: FakeServer, device: Device) -> None:
    server.faults.append(faults.on("/trust/", faults.change(faults.flip)))
    deployment = server.deploy(WANTED)
    device.once(exit_code=9)
    assert (deployment.state, deployment.last["reason_code"]) == ("rejected", "bad_manifest")
    assert not server.requests_to("/blobs/")
    device.assert_consistent()


def test_a_manifest_that_breaks_a_rule_is_refused(server: FakeServer, device: Device) -> None:
    malicious = bundle.data("1", {"../../escape": "x"})
    deployment = server.deploy(malicious)
    device.once(exit_code=9)
    assert (deployment.state, deployment.last["reason_code"]) == ("rejected", "bad_manifest")
    assert "bad_path" in deployment.last["message"]
    assert not list(Path(device.state_dir).rglob("escape"))
    device.assert_consistent()


def test_a_manifest_of_another_bundle_is_refused(server: FakeServer, device: Device) -> None:
    other = bundle.data("2")
    server.publish(other)
    deployment = server.deploy(WANTED)
    payload = server.commands[0]["payload"]["bundle"]
    payload |= {"manifest_sha256": other.sha256, "manifest_size": len(other.body)}
    server.faults.append(faults.on("/trust/", faults.status(200, other.body)))
    device.once(exit_code=9)
    assert (deployment.state, deployment.last["reason_code"]) == ("rejected", "bad_manifest")


def test_a_manifest_larger_than_declared_is_not_read(server: FakeServer, device: Device) -> None:
    server.faults.append(faults.on("/trust/", faults.status(200, bytes(50_000_000)), times=1))
    deployment = server.deploy(WANTED)
    device.once()
    assert deployment.state == "succeeded"
