"""Late reports of releases that crash-loop after a success: they are sent until the server responds."""

from collections.abc import Callable

import pytest

from tests.agent import bundle, faults
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer, Fault
from tests.agent.test_programs import FRAGILE, install

SERVER_FAULTS: dict[str, Callable[[], list[Fault]]] = {
    "available": list,
    "unavailable at first": lambda: [faults.on("/result", faults.status(503, Retry_After="1"), times=3)],
    "loses its first response": lambda: [faults.on("/result", faults.lose_response, times=1)],
}


@pytest.mark.parametrize("is_recorded", [True, pytest.param(False, marks=pytest.mark.long)], ids=["recorded", "ended"])
@pytest.mark.parametrize("server_faults", SERVER_FAULTS.values(), ids=SERVER_FAULTS.keys())
def test_a_late_report_is_sent_until_the_server_responds(
    server: FakeServer, device: Device, server_faults: Callable[[], list[Fault]], is_recorded: bool
) -> None:
    """The server records it (200), or refuses it with 409 `ended` like earlier versions."""
    server.records_late_reports = is_recorded
    device.options |= {"CRASH_LOOP_STARTS": "2"}
    device.start()
    install(server, device, bundle_1 := bundle.program("1"), bundle.program("2", FRAGILE))
    wait_for(lambda: device.state.outbox == [])
    server.faults += server_faults()
    deployment = list(server.deployments.values())[1]
    (device.state_dir / "broken").touch()
    wait_for(lambda: deployment.late_reports, 40, device.log_text)
    report = deployment.late_reports[0]
    assert (report["state"], report["reason_code"], report["attempt"]) == ("rolled_back", "crash_loop", 1)
    assert report["report"] > max(earlier["report"] for earlier in deployment.reports)
    assert deployment.state == "succeeded"
    wait_for(lambda: device.state.outbox == [], 30, device.log_text)
    wait_for(lambda: device.is_running(bundle_1), 40, device.log_text)
    assert len(deployment.late_reports) == 1
    assert device.stop() == 0
    device.assert_consistent()


def test_a_result_after_the_deadline_is_still_reported(server: FakeServer, device: Device) -> None:
    """The server ended the deployment while the device could not be reached."""
    server.faults.append(faults.on("/result", faults.status(503, Retry_After="1"), times=1000))
    deployment = server.deploy(bundle_1 := bundle.program("1"))
    device.start()
    wait_for(lambda: device.is_running(bundle_1), 40, device.log_text)
    deployment.state = "timed_out"
    server.faults.clear()
    wait_for(lambda: [report["state"] for report in deployment.late_reports][-1:] == ["succeeded"], 40, device.log_text)
    assert device.stop() == 0
    device.assert_consistent()
