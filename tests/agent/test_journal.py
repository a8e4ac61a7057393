"""The journal: what it holds survives, and neither an odd entry nor a flipped digit stops the device."""

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
from tests.agent.test_programs import installed

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
ODD: list[Any] = [None, 7, True, "text", [], {}, [[]], {"deployment_id": "../../x", "attempt": 1}]
MEMBERS = ["commands", "acknowledge", "command_outcomes", "log_requests", "jobs", "outbox", "ended"]


def with_checksum_removed(data: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(data)
    value.pop("sha256")
    return value


def test_the_journal_is_read_as_it_was_written() -> None:
    decoded = decode(encode(FULL))
    assert decoded.state == FULL
    assert decoded.left_out == []


def test_a_flipped_bit_never_changes_the_journal_that_is_read() -> None:
    data = encode(FULL)
    noticed = 0
    for position in range(len(data)):
        flipped = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        try:
            assert decode(flipped).state == FULL  # such as a flip in the name of the checksum
        except ValueError:
            noticed += 1
    assert noticed >= len(data) - len('"sha256"')


@pytest.mark.parametrize("member", MEMBERS)
def test_an_odd_entry_is_left_out_and_the_others_stay(member: str) -> None:
    for odd in ODD:
        value = with_checksum_removed(encode(FULL))
        value[member].insert(0, odd)
        decoded = decode(json.dumps(value).encode())
        if len(decoded.left_out) == 1:
            assert decoded.state == FULL
            assert decoded.left_out[0].startswith(member)
        else:  # the odd entry is a valid one of this member, such as a number among ids
            assert getattr(decoded.state, member)[1:] == getattr(FULL, member)


def test_an_entry_with_one_wrong_member_is_left_out() -> None:
    for member in ("jobs", "outbox", "log_requests", "command_outcomes"):
        entry = with_checksum_removed(encode(FULL))[member][0]
        for name in entry:
            value = with_checksum_removed(encode(FULL))
            value[member].append({**entry, name: [1.5]})
            assert len(decode(json.dumps(value).encode()).left_out) == 1, (member, name)


def test_a_newer_agents_members_are_ignored() -> None:
    value = with_checksum_removed(encode(FULL))
    value["later"] = 1
    value["jobs"][0]["later"] = 1
    value["products"]["vad"]["current"]["later"] = 1
    assert decode(json.dumps(value).encode()).state == FULL


def test_an_odd_product_is_found_again_on_disk(tmp_path: Path) -> None:
    value = with_checksum_removed(encode(FULL))
    value["products"]["zap"] = {"current": {"version": "1", "manifest_sha256": "../x"}}
    (tmp_path / "journal.json").write_text(json.dumps(value))
    journal = Journal(tmp_path)
    assert list(journal.state.products) == ["vad"]
    assert journal.needs_rebuild


@pytest.mark.parametrize("odd", ODD, ids=[json.dumps(odd)[:20] for odd in ODD])
def test_new_commands_are_accepted_beside_an_odd_report(server: FakeServer, device: Device, odd: Any) -> None:
    device.start()
    installed(server, device, bundle.data("1"))
    assert device.stop() == 0
    path = device.state_dir / "journal.json"
    value = with_checksum_removed(path.read_bytes())
    value["outbox"].append(odd)
    path.write_text(json.dumps(value))
    device.start()
    installed(server, device, bundle.data("2"))
    wait_for(lambda: server.outcomes.get(2) == ("done", ""))
    assert device.stop() == 0
    device.check()


@pytest.mark.parametrize("release", ["current", "previous"])
def test_a_flipped_digit_in_a_digest_deletes_no_release(server: FakeServer, device: Device, release: str) -> None:
    device.start()
    installed(server, device, ONE, TWO)
    assert device.stop() == 0
    path = device.state_dir / "journal.json"
    text = path.read_text()
    sha256 = json.loads(text)["products"]["vad"][release]["manifest_sha256"]
    path.write_text(text.replace(sha256, ("0" if sha256[0] != "0" else "1") + sha256[1:]))
    count = len(server.heartbeats)
    device.start()
    wait_for(lambda: len(server.heartbeats) > count, 30, device.log_text)
    assert device.runs(TWO)
    done = device.run("rollback", "vad")
    assert done.returncode == 0, done.stderr
    assert device.runs(ONE)
    installed(server, device, THREE)
    assert device.stop() == 0
    device.check()
