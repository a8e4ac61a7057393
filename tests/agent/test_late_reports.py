"""A release that had succeeded crash-loops: the server hears of it, and its answer ends the report."""

from collections.abc import Callable

import pytest

from tests.agent import bundle, faults
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer, Fault
from tests.agent.test_programs import FRAGILE, installed

ANSWERS: dict[str, Callable[[], list[Fault]]] = {
    "available": list,
    "away at first": lambda: [faults.on("/result", faults.status(503, Retry_After="1"), times=3)],
    "loses its first answer": lambda: [faults.on("/result", faults.lose_the_answer, times=1)],
}


@pytest.mark.parametrize("is_recorded", [True, pytest.param(False, marks=pytest.mark.long)], ids=["recorded", "ended"])
@pytest.mark.parametrize("answers", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_late_report_is_sent_until_the_server_answers(
    server: FakeServer, device: Device, answers: Callable[[], list[Fault]], is_recorded: bool
) -> None:
    """The server records it (200), or refuses it with 409 `ended`, as earlier versions did."""
    server.records_late_reports = is_recorded
    device.options |= {"CRASH_LOOP_STARTS": "2"}
    device.start()
    installed(server, device, bundle_1 := bundle.program("1"), bundle.program("2", FRAGILE))
    wait_for(lambda: device.state.outbox == [])
    server.faults += answers()
    deployment = list(server.deployments.values())[1]
    (device.state_dir / "broken").touch()
    wait_for(lambda: deployment.late, 40, device.log_text)
    report = deployment.late[0]
    assert (report["state"], report["reason_code"], report["attempt"]) == ("rolled_back", "crash_loop", 1)
    assert report["report"] > max(taken["report"] for taken in deployment.taken)
    assert deployment.state == "succeeded"
    wait_for(lambda: device.state.outbox == [], 30, device.log_text)
    wait_for(lambda: device.runs(bundle_1), 40, device.log_text)
    assert len(deployment.late) == 1
    assert device.stop() == 0
    device.check()


def test_a_result_after_the_deadline_is_still_reported(server: FakeServer, device: Device) -> None:
    """The device was out of reach while it installed, and the server ended the deployment meanwhile."""
    server.faults.append(faults.on("/result", faults.status(503, Retry_After="1"), times=1000))
    deployment = server.deploy(bundle_1 := bundle.program("1"))
    device.start()
    wait_for(lambda: device.runs(bundle_1), 40, device.log_text)
    deployment.state = "timed_out"
    server.faults.clear()
    wait_for(lambda: [report["state"] for report in deployment.late][-1:] == ["succeeded"], 40, device.log_text)
    assert device.stop() == 0
    device.check()
