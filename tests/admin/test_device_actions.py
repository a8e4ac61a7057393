"""Actions on devices in the admin: many devices at once, and collecting logs."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.utils import timezone

from devices.admin import actions
from devices.models import BulkDecision, Command, Decision, Device, LogRequest
from devices.models.log_request import LogBatchContent
from tests.admin.actions import object_url, run_action, shown_messages
from tests.devices.payloads import cancel_payload
from tests.factories import make_device

pytestmark = pytest.mark.django_db


def test_the_scheduler_carries_out_a_decision_about_many_devices(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MAX_AT_ONCE", 2)
    devices = [make_device() for _ in range(3)]
    response = run_action(boss, "devices", "decommission", *devices)
    bulk_decision = BulkDecision.objects.get()
    assert response["Location"] == f"/admin/devices/bulkdecision/{bulk_decision.pk}/change/"
    assert (bulk_decision.total, bulk_decision.decision) == (3, "decommission")
    assert set(Device.objects.values_list("state", flat=True)) == {"accepted"}
    assert "0 of 3" in boss.get(response["Location"]).content.decode()


def test_a_decision_about_few_devices_is_carried_out_at_once(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MAX_AT_ONCE", 2)
    devices = [make_device(state="pending") for _ in range(2)]
    assert shown_messages(run_action(boss, "devices", "approve", *devices)) == ["Approved: 2."]
    assert not BulkDecision.objects.exists()


def test_stopping_a_bulk_decision_needs_the_permission_to_change_devices(
    boss: Client, staff: Callable[..., Client]
) -> None:
    make_device()
    bulk_decision = BulkDecision.record(Decision.DECOMMISSION, Device.objects.all(), "operator:alice")
    url = "/admin/devices/bulkdecision/"
    body = {"action": "stop", "_selected_action": str(bulk_decision.pk), "confirmed": "yes"}
    staff("devices.view_device").post(url, body)
    bulk_decision.refresh_from_db()
    assert bulk_decision.state == "running"
    boss.post(url, body)
    bulk_decision.refresh_from_db()
    assert bulk_decision.state == "stopped"


def test_logs_are_collected_from_a_device(boss: Client) -> None:
    device = make_device()
    assert shown_messages(run_action(boss, "devices", "collect_logs", device)) == ["Asked for logs: 1."]
    log_request = LogRequest.objects.get()
    assert log_request.created_by == "operator:alice"
    log_request.add_batch(LogBatchContent(1, "agent", "<b>enrolled</b>\n", is_last=True))
    page = boss.get(object_url("devices", device)).content.decode()
    assert f"/admin/devices/logrequest/{log_request.pk}/change/" in page
    log_page = boss.get(f"/admin/devices/logrequest/{log_request.pk}/change/").content.decode()
    assert "&lt;b&gt;enrolled&lt;/b&gt;" in log_page
    download = boss.get(f"/admin/devices/logrequest/{log_request.pk}/text")
    assert b"".join(download) == b"==> agent <==\n<b>enrolled</b>\n"
    assert download["Content-Disposition"].startswith("attachment")


def test_collecting_logs_from_too_many_devices_is_refused(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MAX_AT_ONCE", 1)
    response = run_action(boss, "devices", "collect_logs", make_device(), make_device())
    assert shown_messages(response) == ["Choose at most 1 devices for this."]
    assert not LogRequest.objects.exists()


def test_reading_logs_needs_the_permission_to_view_devices(staff: Callable[..., Client]) -> None:
    log_request = LogRequest.open_for(make_device(), actor="operator:alice").log_request
    urls = [f"/admin/devices/logrequest/{log_request.pk}/{page}" for page in ("change/", "text")]
    viewer, publisher = staff("devices.view_device"), staff("bundles.view_bundle", name="carol")
    for url in urls:
        assert viewer.get(url).status_code == 200
        assert publisher.get(url).status_code == 403


def test_the_page_of_a_device_shows_how_commands_ended(boss: Client) -> None:
    device = make_device()
    command = Command.objects.queue(device.pk, cancel_payload())
    assert command is not None
    Command.objects.update(
        ended_at=timezone.now(), outcome="unknown_command", outcome_message="this agent cannot cancel"
    )
    page = boss.get(object_url("devices", device)).content.decode()
    assert "ended: unknown command" in page
    assert "this agent cannot cancel" in page
