"""Random stories of a deployment in phases: what must always hold, and that every story comes to an end.

The counts and thresholds are checked against a second, naive implementation in this file.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.models import Deployment, DeviceDeployment, Phase
from deployments.offers import offer
from deployments.phases.advance import advance, withdraw_offers_of_paused
from deployments.phases.control import Resumption, pause_deployment, promote_deployment, resume_deployment
from deployments.phases.definition import PhaseDefinition
from deployments.planning import plan
from deployments.reports import Report, accept_report
from deployments.rollback import roll_back
from deployments.termination import carry_out_cancels, end_decommissioned, enforce_deadlines, finish
from devices.models import Command, Device
from foundation.errors import ApiError, Conflict
from tests.factories import make_bundle, make_deployment, make_device

ALICE = "operator:alice"
OPEN = {"filling", "settling", "soaking", "gate"}
ACTIVE = {"offered", "accepted", "downloading", "installing", "checking", "cancelling"}
BAD = {"failed", "rolled_back", "rejected"}


TASKS = (
    plan, advance, offer, withdraw_offers_of_paused, carry_out_cancels, enforce_deadlines, end_decommissioned, finish,
)  # fmt: skip


def tick() -> None:
    for task in TASKS:
        task()


class Story:
    """A deployment and what may happen to it. `number` picks the device or row that an action is about."""

    def __init__(self, phases: list[PhaseDefinition], devices: int, on_failure: str) -> None:
        old, new = make_bundle("vad@1.0.0"), make_bundle("vad@2.0.0")
        running = {"vad": {"version": "1.0.0", "manifest_sha256": old.manifest_sha256}}
        now = timezone.now()
        self.devices = [make_device(running_bundles=running, last_heartbeat_at=now) for _ in range(devices)]
        self.deployment = make_deployment(new, *self.devices, phases=phases, on_failure=on_failure, min_sample=3)
        self.new = new

    def rows(self, *states: str) -> list[DeviceDeployment]:
        rows = DeviceDeployment.objects.order_by("rank", "pk")
        return list(rows.filter(state__in=states) if states else rows)

    def report(self, number: int, state: str, *states: str) -> None:
        rows = self.rows(*states)
        if rows:
            row = rows[number % len(rows)]
            accept_report(row.device_id, row.deployment_id, Report(row.attempt, row.report + 1, state))

    def accept(self, number: int) -> None:
        self.report(number, "accepted", "offered")

    def succeed(self, number: int) -> None:
        self.report(number, "succeeded", *ACTIVE)

    def fail(self, number: int) -> None:
        self.report(number, "failed", *ACTIVE)

    def fail_late(self, number: int) -> None:
        self.report(number, "rolled_back", "succeeded")

    def acknowledge(self, number: int) -> None:
        """Let a device acknowledge its commands, without accepting an offer."""
        device = self.devices[number % len(self.devices)]
        Command.objects.open().filter(device_id=device.pk).update(acknowledged_at=timezone.now())

    def repeat_an_old_report(self, number: int) -> None:
        rows = self.rows()
        if rows:
            row = rows[number % len(rows)]
            state = ("accepted", "succeeded", "failed", "cancelled")[number % 4]
            report = Report(max(1, row.attempt - number % 2), max(1, row.report - number % 3), state)
            with suppress(ApiError):
                accept_report(row.device_id, row.deployment_id, report)

    def leave_a_cancel_unanswered(self, number: int) -> None:
        past = timezone.now() - timedelta(hours=1)
        DeviceDeployment.objects.filter(state="cancelling").update(state_changed_at=past)
        self.fall_silent(number)

    def fall_silent(self, number: int) -> None:
        device = self.devices[number % len(self.devices)]
        Device.objects.filter(pk=device.pk).update(last_heartbeat_at=timezone.now() - timedelta(hours=1))

    def return_online(self, number: int) -> None:
        Device.objects.filter(pk=self.devices[number % len(self.devices)].pk).update(last_heartbeat_at=timezone.now())

    def wait_for_acceptance(self, number: int) -> None:
        past = timezone.now() - timedelta(hours=2)
        DeviceDeployment.objects.filter(state="offered").update(offered_at=past)
        Phase.objects.filter(opened_at__isnull=False).update(opened_at=past)

    def wait_for_devices(self, number: int) -> None:
        Phase.objects.filter(state__in=OPEN).update(fill_ends_at=timezone.now())

    def soak(self, number: int) -> None:
        Phase.objects.filter(state="soaking").update(soak_ends_at=timezone.now())

    def reach_the_deadline(self, number: int) -> None:
        DeviceDeployment.objects.filter(state__in=ACTIVE).update(deadline_at=timezone.now())

    def decommission(self, number: int) -> None:
        device = Device.objects.get(pk=self.devices[number % len(self.devices)].pk)
        with suppress(ApiError):
            device.decommission(ALICE)

    def pause(self, number: int) -> None:
        with suppress(ApiError):
            pause_deployment(self.deployment, actor=ALICE)

    def resume(self, number: int) -> None:
        decision = (
            Resumption(), Resumption("known", accept_failures=True), Resumption("known", skip_phase=True),
            Resumption("known", error_threshold_percent=100, success_threshold_percent=0),
        )[number % 4]  # fmt: skip
        with suppress(ApiError):
            resume_deployment(self.deployment, decision, actor=ALICE)

    def promote(self, number: int) -> None:
        with suppress(ApiError):
            promote_deployment(self.deployment, actor=ALICE)

    def cancel(self, number: int) -> None:
        with suppress(ApiError):
            self.deployment.cancel(ALICE)

    def roll_back(self, number: int) -> None:
        with suppress(ApiError):
            roll_back(self.deployment, reason="", actor=ALICE)

    def end(self) -> None:
        """Let every device answer and every operator decide, until all deployments have ended."""
        for _ in range(60):
            self.soak(0)
            self.wait_for_devices(0)
            for device in range(len(self.devices)):
                self.return_online(device)
            for row in self.rows(*ACTIVE):
                state = "cancelled" if row.state == "cancelling" else "succeeded"
                accept_report(row.device_id, row.deployment_id, Report(row.attempt, row.report + 1, state))
            for deployment in Deployment.objects.filter(state="paused"):
                with suppress(Conflict):
                    resume_deployment(deployment, Resumption("all", skip_phase=True), actor=ALICE)
                resume_deployment(deployment, Resumption("all", accept_failures=True), actor=ALICE)
            tick()
            if not Deployment.objects.filter(finished_at=None).exists():
                return
        states = list(Deployment.objects.values_list("state", "pause_reason", "phases__state"))
        raise AssertionError(f"the story does not end: {states}, {[row.state for row in self.rows()]}")


ACTIONS: list[Callable[[Story, int], None]] = [
    Story.accept, Story.succeed, Story.succeed, Story.succeed, Story.fail, Story.fail_late, Story.fall_silent,
    Story.return_online, Story.wait_for_acceptance, Story.wait_for_devices, Story.soak, Story.reach_the_deadline,
    Story.acknowledge, Story.repeat_an_old_report, Story.leave_a_cancel_unanswered,
    Story.decommission, Story.pause, Story.resume, Story.resume, Story.promote, Story.cancel, Story.roll_back,
]  # fmt: skip
SIZES = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from([0, 60]), st.booleans()), max_size=3, unique_by=lambda phase: phase[0]
)
STEPS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 20)), max_size=40)


def check(story: Story) -> None:
    """What holds after every tick."""
    for deployment in Deployment.objects.all():
        rows = list(DeviceDeployment.objects.filter(deployment=deployment).select_related("phase"))
        phases = list(Phase.objects.filter(deployment=deployment))
        taking_part = [row for row in rows if row.state != "skipped"]
        if deployment.state != "planning":
            assert len(taking_part) == deployment.device_count
        open_phases = [phase.number for phase in phases if phase.state in OPEN]
        assert len(open_phases) <= 1
        for phase in phases:
            admitted = [row for row in taking_part if row.phase_id == phase.pk]
            if open_phases and phase.number > open_phases[0]:
                assert phase.state == "pending"
            if phase.state == "pending":
                assert not admitted
            before = [row for row in taking_part if row.phase and row.phase.number <= phase.number]
            assert sum(row.state != "cancelled" and not is_lost(row) for row in before) <= phase.device_count
            if phase.state in {"filling", "settling", "soaking", "gate", "passed"} and deployment.state == "running":
                assert not is_tripped(admitted, phase)
        if deployment.state == "paused":
            offered = [row.pk for row in rows if row.state == "offered"]
            assert not Command.objects.open().for_device_deployments(offered).exists()
        if deployment.finished_at:
            assert not any(row.state in {"waiting", *ACTIVE} for row in rows)
            assert not open_phases
    active: list[Any] = [(row.device_id, row.product) for row in story.rows(*ACTIVE)]
    assert len(active) == len(set(active))


def is_lost(row: DeviceDeployment) -> bool:
    return row.state == "timed_out" and row.reason_code == "never_accepted"


def is_bad(row: DeviceDeployment) -> bool:
    return row.late_at is not None or row.state in BAD or (row.state == "timed_out" and not is_lost(row))


def is_tripped(admitted: list[DeviceDeployment], phase: Phase) -> bool:
    """The error threshold, written down once more."""
    bad = sum(
        row.late_at is not None or row.state in BAD or (row.state == "timed_out" and not is_lost(row))
        for row in admitted
    )
    good = sum(row.late_at is None and row.state == "succeeded" for row in admitted)
    judged = sum(row.state != "cancelled" and not is_lost(row) for row in admitted)
    bad, judged = bad - min(phase.forgiven, bad), judged - min(phase.forgiven, bad)
    sample = max(good + bad, min(3, judged))
    return bad > 0 and Fraction(bad, sample) > Fraction(phase.error_threshold_percent, 100)


def tell(phases: list[PhaseDefinition], devices: int, on_failure: str, steps: list[Any]) -> None:
    with transaction.atomic():
        story = Story(phases, devices, on_failure)
        for action, number in steps:
            action(story, number)
            tick()
            check(story)
        story.end()
        check(story)
        transaction.set_rollback(True)


def stories(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip


def phases_of(sizes: list[tuple[int, int, bool]]) -> list[PhaseDefinition]:
    """Return phases of tenths of the devices, each with a soak and a gate."""
    return [
        *(PhaseDefinition(10 * size, soak_seconds=soak, manual_gate=gate) for size, soak, gate in sorted(sizes)),
        PhaseDefinition(),
    ]


ARGUMENTS = (SIZES.map(phases_of), st.integers(1, 12), st.sampled_from(["pause", "cancel", "roll_back"]), STEPS)


@pytest.mark.django_db
@stories(25)
@given(*ARGUMENTS)
def test_every_story_keeps_the_rules_and_ends(
    phases: list[PhaseDefinition], devices: int, on_failure: str, steps: list[Any]
) -> None:
    tell(phases, devices, on_failure, steps)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.django_db
@stories(2000)
@given(*ARGUMENTS)
def test_two_thousand_stories_keep_the_rules_and_end(
    phases: list[PhaseDefinition], devices: int, on_failure: str, steps: list[Any]
) -> None:
    tell(phases, devices, on_failure, steps)
