"""`send_logs`: the contents of the logs, and their delivery exactly once despite kills and network faults."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.log import MAX_FILE_SIZE, AgentLogFile
from agent.server.log_batches import MAX_BATCH_SIZE, LogSource, collect
from tests.agent import bundle, faults
from tests.agent.device import Device, wait_for
from tests.agent.server import TOKEN, FakeServer, Fault, LogRequest

TALKING = f"print('token {TOKEN}', flush=True)\nfor n in range(3000): print('line', n, 'x' * 100, flush=True)\n"


@dataclass
class Source:
    name: str
    data: bytes

    def tail(self, size: int) -> bytes:
        return self.data[-size:]


def finish(device: Device, log_request: LogRequest) -> None:
    wait_for(lambda: log_request.state == "complete", 40, device.log_text)


def test_the_logs_of_agent_programs_and_failed_releases_arrive(server: FakeServer, device: Device) -> None:
    device.start()
    device.wait_for_end(server.deploy(bundle.program("1", TALKING + bundle.GOOD)))
    device.wait_for_end(server.deploy(bundle.program("2", f"print('I fail', flush=True)\n{bundle.BAD}")))
    log_request = server.request_logs()
    finish(device, log_request)
    assert log_request.sources == ["agent", "program:vad", "failed:vad@2"]
    assert "Enrolled at" in log_request.text("agent")
    assert "line 2999" in log_request.text("program:vad")
    assert "I fail" in log_request.text("failed:vad@2")
    assert TOKEN not in log_request.text()
    wait_for(lambda: server.outcomes.get(len(server.commands)) == ("done", ""), 30, device.log_text)
    wait_for(lambda: device.state.is_idle())
    assert list((device.state_dir / "log-requests").iterdir()) == []


def test_once_sends_the_logs_and_their_outcome(server: FakeServer, device: Device) -> None:
    log_request = server.request_logs()
    device.once()
    assert log_request.state == "complete"
    assert server.outcomes == {1: ("done", "")}


@pytest.mark.parametrize(
    "fault",
    [faults.drop, faults.reset, faults.lose_response, faults.status(503, Retry_After="1"), faults.status(429)],
    ids=["drop", "reset", "lost", "503", "429"],
)
def test_a_batch_is_sent_until_it_is_accepted(server: FakeServer, device: Device, fault: Fault) -> None:
    """The server asserts that no two batches have the same number."""
    device.start()
    device.wait_for_end(server.deploy(bundle.program("1", TALKING + bundle.GOOD)))
    server.faults.append(faults.on("/batches", fault, times=3))
    log_request = server.request_logs()
    finish(device, log_request)
    assert [batch["batch"] for batch in log_request.batches] == list(range(1, len(log_request.batches) + 1))
    assert log_request.text("program:vad").count("line 2999 ") == 1


def test_an_agent_that_is_killed_repeatedly_continues(server: FakeServer, device: Device) -> None:
    device.start()
    device.wait_for_end(server.deploy(bundle.program("1", TALKING + bundle.GOOD)))
    server.faults.append(faults.on("/batches", faults.lose_response, times=4))
    log_request = server.request_logs()
    for count in range(1, 5):
        wait_for(lambda count=count: len(server.requests_to("/batches")) >= count, 30, device.log_text)  # type: ignore[misc]
        device.kill()
        device.start()
    finish(device, log_request)
    wait_for(lambda: server.outcomes.get(len(server.commands)) == ("done", ""), 30, device.log_text)
    assert log_request.text("program:vad").count("line 2999 ") == 1


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (409, "log_request_ended"), (413, "too_large")])
def test_a_refused_log_request_ends_as_failed(server: FakeServer, device: Device, status: int, code: str) -> None:
    server.faults.append(faults.on("/batches", faults.refuse(status, code)))
    server.request_logs()
    device.once()
    outcome, message = server.outcomes[1]
    assert outcome == "failed"
    assert code in message
    assert len(server.requests_to("/batches")) == 1


def test_missing_batches_are_sent_again_a_limited_number_of_times(server: FakeServer, device: Device) -> None:
    server.faults.append(faults.on("/batches", faults.refuse(409, "batch_gap", next_batch=1), times=2))
    assert server.request_logs().state == "requested"
    device.once()
    assert server.outcomes[1] == ("done", "")
    server.faults.append(faults.on("/batches", faults.refuse(409, "batch_gap", next_batch=1)))
    server.request_logs()
    device.once()
    assert server.outcomes[2][0] == "failed"


def test_the_newest_bytes_are_sent() -> None:
    log = Source("agent", b"".join(b"line %d\n" % number for number in range(100_000)))
    batches = collect([log, Source("program:vad", b"short\n")], 10_000)
    assert sum(len(batch.text.encode()) for batch in batches) == 10_000
    assert batches[0].text.endswith("line 99999\n")
    assert batches[-1].text == "short\n"


def test_batches_end_between_lines_and_characters() -> None:
    lines = Source("agent", b"".join(b"line %d\n" % number for number in range(50_000)))
    unbroken = Source("program:vad", ("ä€😀" * 40_000).encode())
    batches = collect([lines, unbroken], 4 * 1024 * 1024)
    assert all(len(batch.text.encode()) <= MAX_BATCH_SIZE for batch in batches)
    assert all(batch.text.endswith("\n") for batch in batches if batch.source == "agent")
    for source in (lines, unbroken):
        assert "".join(batch.text for batch in batches if batch.source == source.name).encode() == source.data


def test_a_truncated_secret_is_not_sent() -> None:
    """Removing secrets shortens the text, so that the truncated beginning may be sent as well."""
    text = f"{TOKEN} is a secret\n".encode() * 10_000
    for size in (*range(1000, 1060), *range(200_000, 200_060)):
        sent = "".join(batch.text for batch in collect([Source("agent", text)], size))
        assert "tttttt" not in sent


def test_an_empty_log_is_one_batch() -> None:
    sources: list[LogSource] = [Source("agent", b"")]
    assert [(batch.source, batch.text) for batch in collect(sources, 1000)] == [("agent", "")]


def test_the_agent_log_is_bounded(tmp_path: Path) -> None:
    own_log = AgentLogFile(tmp_path)
    for number in range(30_000):
        own_log.append(b"%06d %s\n" % (number, b"x" * 100))
    own_log.append(b"y" * 10_000_000)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * MAX_FILE_SIZE
    assert own_log.tail(10**7).startswith(b"0")
    assert b"029999" in own_log.tail(10**7)
