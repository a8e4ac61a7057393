"""Sequence numbers: a malicious server cannot use them up, and a device without numbers says what to do."""

from pathlib import Path
from typing import Any

import pytest

from agent.errors import SequenceExhausted
from agent.server.sequence import MAX_JUMP, MAX_JUMP_TARGET, MAX_NUMBER, Sequence
from tests.agent import faults
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer


@pytest.fixture
def sequence(tmp_path: Path) -> Sequence:
    return Sequence(tmp_path)


def test_numbers_increase_even_after_a_restart(sequence: Sequence, tmp_path: Path) -> None:
    numbers = [sequence.next() for _ in range(3)]
    numbers += [Sequence(tmp_path).next(), Sequence(tmp_path).next()]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("number", [None, True, "9", 1.5, -1, 0, MAX_JUMP + 2, MAX_JUMP_TARGET])
def test_an_implausible_jump_is_refused(sequence: Sequence, number: Any) -> None:
    assert sequence.next() == 1
    assert not sequence.continue_at(number)
    assert sequence.next() == 2


def test_a_plausible_jump_is_followed(sequence: Sequence, tmp_path: Path) -> None:
    assert sequence.continue_at(MAX_JUMP)
    assert sequence.next() == MAX_JUMP
    assert Sequence(tmp_path).next() > MAX_JUMP


@pytest.mark.parametrize("number", [MAX_JUMP_TARGET + 1, MAX_NUMBER, 2**70])
def test_a_jump_close_to_the_last_number_is_refused(sequence: Sequence, number: int) -> None:
    with pytest.raises(SequenceExhausted):
        sequence.continue_at(number)
    assert sequence.next() == 1


def test_no_number_follows_the_last_one(sequence: Sequence) -> None:
    sequence.last = MAX_NUMBER - 1
    assert sequence.next() == MAX_NUMBER
    with pytest.raises(SequenceExhausted, match="enrol again"):
        sequence.next()


def test_a_device_survives_a_server_with_wrong_sequence_numbers(server: FakeServer, device: Device) -> None:
    refusals = [
        faults.refuse(409, "sequence_used", next_sequence=number) for number in (MAX_NUMBER, 2**50, 2**41, 2**39)
    ]
    device.start()
    wait_for(lambda: server.sequence > 1, 30, device.log_text)
    for refusal in refusals:
        server.faults.insert(0, faults.on("/heartbeat", refusal, times=1))
    count = len(server.heartbeats)
    wait_for(lambda: len(server.heartbeats) > count + 2, 30, device.log_text)
    assert server.sequence < 10_000
    assert "refuses this jump" in device.log_text()


def test_a_device_without_sequence_numbers_says_what_to_do(server: FakeServer, device: Device) -> None:
    server.faults.append(faults.on("/heartbeat", faults.refuse(409, "sequence_used", next_sequence=MAX_NUMBER)))
    done = device.run("once")
    assert done.returncode == 8
    assert "enrol again with a new token" in done.stderr
