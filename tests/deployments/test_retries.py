"""Retries after temporary failures, and devices that are cooling down."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from bundles.models import Bundle
from deployments.models import Deployment, DeviceDeployment
from deployments.offers import offer
from deployments.phases.advance import advance
from deployments.phases.definition import PhaseDefinition
from deployments.reports import Report, accept_report
from deployments.retries import RETRYABLE_REASONS, pause_after
from deployments.termination import carry_out_cancels
from devices.models import Command, Device
from foundation.errors import Conflict, NotFound
from foundation.events.models import Event
from tests.factories import complete, make_bundle, make_deployment, make_device

pytestmark = pytest.mark.django_db


def row_of(deployment: Deployment) -> DeviceDeployment:
    return DeviceDeployment.objects.get(deployment=deployment)


def report(deployment: Deployment, state: str, reason_code: str = "", **fields: Any) -> str:
    """Report the state of the deployment's only device, in its current attempt."""
    row = row_of(deployment)
    given = {"attempt": row.attempt, "report": row.report + 1, **fields}
    return accept_report(row.device_id, deployment.pk, Report(state=state, reason_code=reason_code, **given))


def fail(deployment: Deployment, reason_code: str = "download_failed") -> str:
    """Offer the bundle, as if the pause were over, and report a failure."""
    DeviceDeployment.objects.filter(deployment=deployment).update(retry_at=None)
    assert offer() == 1
    report(deployment, "accepted")
    return report(deployment, "failed", reason_code, message="the connection was reset")


def test_a_device_tries_again_until_its_attempts_are_used_up(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, make_device())
    for failures in (1, 2):
        assert fail(deployment) == "failed"
        row = row_of(deployment)
        assert (row.state, row.failures, row.attempt, row.reason_code) == (
            "waiting", failures, failures + 1, "download_failed",
        )  # fmt: skip
        assert row.message == "the connection was reset"
        assert row.retry_at is not None
        assert row.retry_at > timezone.now()
        assert complete() == 0
    assert fail(deployment) == "failed"
    assert row_of(deployment).state == "failed"
    assert complete() == 1
    assert Event.objects.filter(kind="deployment.attempt_failed").count() == 2


def test_a_device_waits_for_its_pause(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, make_device())
    fail(deployment)
    assert offer() == 0
    DeviceDeployment.objects.update(retry_at=timezone.now() - timedelta(seconds=1))
    assert offer() == 1
    row = row_of(deployment)
    assert (row.state, row.retry_at) == ("offered", None)
    assert Command.objects.open().count() == 1
    assert report(deployment, "succeeded") == "succeeded"
    assert row_of(deployment).failures == 1


@pytest.mark.parametrize("state", ["failed", "rolled_back", "rejected"])
@pytest.mark.parametrize("reason_code", sorted(RETRYABLE_REASONS))
def test_reasons_that_may_pass(bundle: Bundle, state: str, reason_code: str) -> None:
    deployment = make_deployment(bundle, make_device())
    offer()
    report(deployment, state, reason_code)
    assert row_of(deployment).state == "waiting"


@pytest.mark.parametrize(
    "reason_code",
    ["bad_manifest", "bad_blob", "wrong_device_type", "hook_failed", "unhealthy", "crash_loop", "internal", ""],
)
def test_reasons_that_do_not_pass(bundle: Bundle, reason_code: str) -> None:
    deployment = make_deployment(bundle, make_device())
    offer()
    report(deployment, "failed", reason_code)
    assert row_of(deployment).state == "failed"


def test_one_attempt_means_no_retry(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, make_device(), max_attempts=1)
    fail(deployment)
    assert row_of(deployment).state == "failed"


def test_pauses_grow_to_six_hours_and_vary_by_a_fifth() -> None:
    for failures, seconds in [(1, 300), (2, 1200), (3, 4800), (4, 19_200), (5, 21_600), (60_000, 21_600)]:
        pauses = {pause_after(failures).total_seconds() for _ in range(200)}
        assert seconds * 0.8 <= min(pauses) < max(pauses) <= seconds * 1.2


def test_a_repeated_report_of_the_failed_attempt_is_refused_as_old(bundle: Bundle) -> None:
    """The agent drops it: the server has it."""
    deployment = make_deployment(bundle, make_device())
    fail(deployment)
    with pytest.raises(Conflict, match="Attempt 2") as refused:
        report(deployment, "failed", "download_failed", attempt=1, report=2)
    assert refused.value.code == "old_attempt"
    with pytest.raises(NotFound):
        report(deployment, "succeeded", attempt=2, report=1)
    assert row_of(deployment).failures == 1


def test_a_cancelled_device_does_not_try_again(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, make_device())
    offer()
    report(deployment, "downloading")
    deployment.cancel("operator:alice")
    report(deployment, "failed", "download_failed")
    assert row_of(deployment).state == "failed"
    other = make_deployment(bundle, make_device())
    fail(other)
    other.cancel("operator:alice")
    carry_out_cancels()
    assert row_of(other).state == "cancelled"


def test_attempts_that_remain_do_not_count_as_failures(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, make_device(), max_attempts=2)
    fail(deployment)
    advance()
    deployment.refresh_from_db()
    assert deployment.state == "running"
    other = make_deployment(bundle, make_device(), max_attempts=1, on_failure="roll_back")
    fail(other)
    other.refresh_from_db()
    assert other.state == "rolling_back"


def end_badly(device: Device, *ago: timedelta) -> None:
    """Let deployments of other products have failed on the device, this long ago."""
    for number, age in enumerate(ago):
        deployment = make_deployment(make_bundle(f"p{number}@1.0.0"), device)
        rows = DeviceDeployment.objects.filter(deployment=deployment)
        rows.transition_to("offered", deadline_at=timezone.now())
        rows.transition_to("failed")
        rows.update(finished_at=timezone.now() - age)


@pytest.mark.parametrize(
    ("hours", "cooling"),
    [((1, 2, 3), True), ((1, 2), False), ((20, 30, 40), True), ((1, 20, 26), False), ((25, 26, 27), False)],
)
def test_a_device_that_ended_badly_three_times_is_cooling(
    bundle: Bundle, hours: tuple[int, ...], cooling: bool
) -> None:
    """It is not admitted for a day after the third time, and takes no place from others."""
    devices = [make_device(last_heartbeat_at=timezone.now()) for _ in range(4)]
    end_badly(devices[0], *(timedelta(hours=each) for each in hours))
    phases = [PhaseDefinition(count=3), PhaseDefinition()]
    deployment = make_deployment(bundle, *devices, phases=phases, canaries=[])
    DeviceDeployment.objects.filter(deployment=deployment, device=devices[0]).update(rank=0)
    advance()
    admitted = DeviceDeployment.objects.filter(deployment=deployment, phase__number=1)
    assert admitted.count() == 3
    assert admitted.filter(device=devices[0]).exists() is not cooling


def test_canaries_are_admitted_even_if_they_are_cooling(bundle: Bundle) -> None:
    device, other = (make_device(last_heartbeat_at=timezone.now()) for _ in range(2))
    end_badly(device, *(timedelta(hours=each) for each in (1, 2, 3)))
    phases = [PhaseDefinition(count=1), PhaseDefinition()]
    deployment = make_deployment(bundle, device, other, phases=phases, canaries=[device.pk])
    advance()
    assert DeviceDeployment.objects.get(deployment=deployment, phase__number=1).device_id == device.pk
