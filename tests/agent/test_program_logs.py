"""Logs of programs: limited in size, collected by name, and kept for a week if the release failed."""

import os
from pathlib import Path

import pytest

from agent.jobs.state import Product, Release
from agent.programs.logs import FAILED_KEPT_SECONDS, MAX_MESSAGE_SIZE, ProgramLog, ProgramLogs, failure_message
from tests.agent import bundle
from tests.agent.device import Device
from tests.agent.server import FakeServer

RELEASE = Release("1", "a" * 64)
TALKING_BAD = f"print('first line')\nprint('the last line', flush=True)\n{bundle.BAD}"


def sources(device: Device) -> dict[str, bytes]:
    logs = ProgramLogs(device.state_dir)
    return {source.name: source.tail(100_000) for source in logs.sources(device.state.products)}


def test_the_tail_spans_both_files(tmp_path: Path) -> None:
    log = ProgramLog(tmp_path / "vad.log")
    log.older.write_bytes(b"0123456789")
    log.path.write_bytes(b"abc")
    assert log.tail(5) == b"89abc"
    assert log.tail(2) == b"bc"
    assert log.tail(100) == b"0123456789abc"


def test_a_new_log_file_keeps_the_old_lines_separate(tmp_path: Path) -> None:
    log = ProgramLog(tmp_path / "vad.log")
    log.path.write_bytes(b"old\n")
    log.begin()
    assert log.last_output(100) == ""
    assert log.tail(100) == b"old\n"


def test_a_pipe_instead_of_a_log_is_empty(tmp_path: Path) -> None:
    log = ProgramLog(tmp_path / "vad.log")
    os.mkfifo(log.path)
    assert log.tail(100) == b""


def test_a_failed_release_keeps_its_log_until_the_next_installation(server: FakeServer, device: Device) -> None:
    bundle_1 = bundle.program("1", f"print('it works', flush=True)\n{bundle.GOOD}")
    server.deploy(bundle_1)
    server.deploy(bundle.program("2", TALKING_BAD))
    device.once(exit_code=9)
    logs = sources(device)
    assert b"it works" in logs["program:vad"]
    assert logs["failed:vad@2"].endswith(b"first line\nthe last line\n")
    device.assert_consistent()
    server.deploy(bundle.program("3"))
    device.once()
    assert sources(device).keys() == {"program:vad"}


def test_a_failed_first_release_keeps_its_log(server: FakeServer, device: Device) -> None:
    server.deploy(bundle.program("1", TALKING_BAD))
    device.once(exit_code=9)
    assert sources(device) == {"failed:vad@1": b"first line\nthe last line\n"}
    device.assert_consistent()


def test_only_installed_and_failed_releases_have_logs(server: FakeServer, device: Device) -> None:
    for version in ("1", "2", "3"):
        server.deploy(bundle.program(version, f"print('here', flush=True)\n{bundle.GOOD}"))
        device.once()
    names = sorted(path.name.partition("@")[0] for path in (device.state_dir / "logs/vad").iterdir())
    assert names == ["2", "3"]


def test_the_log_of_a_failed_release_expires(tmp_path: Path) -> None:
    logs = ProgramLogs(tmp_path)
    log = logs.of("vad", RELEASE)
    log.begin()
    log.path.write_bytes(b"why\n")
    logs.keep_failed("vad", RELEASE)
    logs.keep_failed("vad", RELEASE)
    logs.expire()
    (source,) = logs.sources({})
    assert source.tail(10) == b"why\n"
    long_ago = source.log.path.stat().st_mtime - FAILED_KEPT_SECONDS - 1
    os.utime(source.log.path, (long_ago, long_ago))
    logs.expire()
    assert logs.sources({}) == []


def test_a_product_without_a_program_has_no_log(tmp_path: Path) -> None:
    assert ProgramLogs(tmp_path).sources({"vad": Product(RELEASE)}) == []


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", "It failed."),
        ("one\ntwo\n\n", "It failed.\none\ntwo"),
    ],
)
def test_a_failure_message_is_the_reason_and_the_output(output: str, expected: str) -> None:
    assert failure_message("It failed.", output) == expected


def test_a_failure_message_ends_with_the_last_complete_lines() -> None:
    lines = [f"line {number} of the output" for number in range(1000)]
    message = failure_message("It failed.", "\n".join(lines))
    reason, *kept = message.split("\n")
    assert reason == "It failed."
    assert kept == lines[-len(kept) :]
    assert MAX_MESSAGE_SIZE - 40 < len(message) <= MAX_MESSAGE_SIZE


def test_a_failure_message_keeps_the_end_of_a_line_that_is_too_long() -> None:
    message = failure_message("It failed.", "first\n" + "ü" * 5000 + "the end")
    assert message.startswith("It failed.\nü")
    assert message.endswith("üthe end")
    assert len(message.encode()) <= MAX_MESSAGE_SIZE
