"""The journal: its contents survive, and neither an invalid entry nor a flipped bit stops the device."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.jobs.encoding import decode, encode
from agent.jobs.journal import Journal
from agent.jobs.state import (
    CommandOutcome,
    Job,
    JobKind,
    JobResult,
    LogRequest,
    Outcome,
    Product,
    Release,
    Report,
    Stage,
    State,
)
from tests.agent import bundle
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer
from tests.agent.test_programs import install

DEPLOYMENT = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
SHA = "a" * 64
ONE, TWO, THREE = bundle.program("1"), bundle.program("2"), bundle.program("3")
FULL = State(
    commands=[1, 2],
    acknowledge=[2],
    command_outcomes=[CommandOutcome(2, Outcome.FAILED, "why")],
    log_requests=[LogRequest(3, DEPLOYMENT, 1024, 2)],
    jobs=[
        Job(JobKind.DEPLOY, "vad", "2", SHA, 10, DEPLOYMENT, 1, stage=Stage.CHECKING, timings={"fetch": 0.25}),
        Job(JobKind.ROLL_BACK, "zap", request_id="here-zap", result=JobResult("failed", "no_previous", "…")),
    ],
    products={"vad": Product(Release("1", SHA, has_program=True), None)},
    outbox=[Report(DEPLOYMENT, 1, 3, "downloading", bytes_done=1, bytes_total=2)],
    ended=[f"{DEPLOYMENT}/0"],
    report_floor=7,
)
INVALID: list[Any] = [None, 7, True, "text", [], {}, [[]], {"deployment_id": "../../x", "attempt": 1}]
LISTS = ["commands", "acknowledge", "command_outcomes", "log_requests", "jobs", "outbox", "ended"]


def without_checksum(data: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(data)
    value.pop("sha256")
    return value


def test_decoding_returns_the_encoded_state() -> None:
    decoded = decode(encode(FULL))
    assert decoded.state == FULL
    assert decoded.omitted == []


def test_a_flipped_bit_never_changes_the_journal_that_is_read() -> None:
    data = encode(FULL)
    detected = 0
    for position in range(len(data)):
        flipped = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        try:
            assert decode(flipped).state == FULL  # for example if the name of the checksum was changed
        except ValueError:
            detected += 1
    assert detected >= len(data) - len('"sha256"')


@pytest.mark.parametrize("list_name", LISTS)
def test_an_invalid_entry_is_omitted_and_the_others_are_kept(list_name: str) -> None:
    for invalid in INVALID:
        value = without_checksum(encode(FULL))
        value[list_name].insert(0, invalid)
        decoded = decode(json.dumps(value).encode())
        if len(decoded.omitted) == 1:
            assert decoded.state == FULL
            assert decoded.omitted[0].startswith(list_name)
        else:  # the value is valid in this list, such as a number among ids
            assert getattr(decoded.state, list_name)[1:] == getattr(FULL, list_name)


def test_an_entry_with_one_invalid_field_is_omitted() -> None:
    for list_name in ("jobs", "outbox", "log_requests", "command_outcomes"):
        entry = without_checksum(encode(FULL))[list_name][0]
        for name in entry:
            value = without_checksum(encode(FULL))
            value[list_name].append({**entry, name: [1.5]})
            assert len(decode(json.dumps(value).encode()).omitted) == 1, (list_name, name)


def test_fields_of_a_newer_agent_are_ignored() -> None:
    value = without_checksum(encode(FULL))
    value["later"] = 1
    value["jobs"][0]["later"] = 1
    value["products"]["vad"]["current"]["later"] = 1
    assert decode(json.dumps(value).encode()).state == FULL


def test_an_invalid_product_is_found_on_disk(tmp_path: Path) -> None:
    value = without_checksum(encode(FULL))
    value["products"]["zap"] = {"current": {"version": "1", "manifest_sha256": "../x"}}
    (tmp_path / "journal.json").write_text(json.dumps(value))
    journal = Journal(tmp_path)
    assert list(journal.state.products) == ["vad"]
    assert journal.needs_rebuild


@pytest.mark.parametrize("entry", INVALID, ids=[json.dumps(value)[:20] for value in INVALID])
def test_new_commands_are_accepted_despite_an_invalid_report(server: FakeServer, device: Device, entry: Any) -> None:
    device.start()
    install(server, device, bundle.data("1"))
    assert device.stop() == 0
    path = device.state_dir / "journal.json"
    value = without_checksum(path.read_bytes())
    value["outbox"].append(entry)
    path.write_text(json.dumps(value))
    device.start()
    install(server, device, bundle.data("2"))
    wait_for(lambda: server.outcomes.get(2) == ("done", ""))
    assert device.stop() == 0
    device.assert_consistent()


@pytest.mark.parametrize("release", ["current", "previous"])
def test_a_flipped_digit_in_a_digest_deletes_no_release(server: FakeServer, device: Device, release: str) -> None:
    device.start()
    install(server, device, ONE, TWO)
    assert device.stop() == 0
    path = device.state_dir / "journal.json"
    text = path.read_text()
    sha256 = json.loads(text)["products"]["vad"][release]["manifest_sha256"]
    path.write_text(text.replace(sha256, ("0" if sha256[0] != "0" else "1") + sha256[1:]))
    count = len(server.heartbeats)
    device.start()
    wait_for(lambda: len(server.heartbeats) > count, 30, device.log_text)
    assert device.is_running(TWO)
    done = device.run("rollback", "vad")
    assert done.returncode == 0, done.stderr
    assert device.is_running(ONE)
    install(server, device, THREE)
    assert device.stop() == 0
    device.assert_consistent()
