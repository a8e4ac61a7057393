"""Deployments in phases, with the scheduler's tasks called one after the other on a real database."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Count
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from bundles.models import Bundle
from deployments import planning
from deployments.models import Deployment, DeviceDeployment, Phase
from deployments.offers import offer
from deployments.phases.advance import advance, trip_if_exceeded, withdraw_offers_of_paused
from deployments.phases.control import Resumption, pause_deployment, promote_deployment, resume_deployment
from deployments.phases.definition import PhaseDefinition
from deployments.reports import Report, accept_report
from deployments.termination import carry_out_cancels
from devices.models import Command, Device
from foundation.errors import BadRequest, Conflict, IllegalTransition
from foundation.events.models import Event
from tests.factories import complete, make_bundle, make_deployment, make_device, make_group

pytestmark = pytest.mark.django_db
ALICE = "operator:alice"
CANARY = (PhaseDefinition(percent=10), PhaseDefinition())
SOAK = (PhaseDefinition(percent=10, soak_seconds=600), PhaseDefinition())
GATE = (PhaseDefinition(percent=10, manual_gate=True), PhaseDefinition())


def online(count: int, **fields: Any) -> list[Device]:
    return [make_device(last_heartbeat_at=timezone.now(), **fields) for _ in range(count)]


def tick() -> None:
    """Run the scheduler's tasks once, in their order."""
    advance()
    offer()
    withdraw_offers_of_paused()


def rows(deployment: Deployment, **filters: Any) -> Any:
    return DeviceDeployment.objects.filter(deployment=deployment, **filters)


def admitted(deployment: Deployment, number: int = 1) -> Any:
    return rows(deployment, phase__number=number)


def report(row: DeviceDeployment, state: str) -> None:
    row.refresh_from_db()
    accept_report(row.device_id, row.deployment_id, Report(row.attempt, row.report + 1, state))


def end(deployment: Deployment, number: int = 1, *, good: int = 0, bad: int = 0) -> None:
    """Let offered devices of a phase report a success or a failure."""
    offered = list(admitted(deployment, number).filter(state="offered").order_by("rank")[: good + bad])
    assert len(offered) == good + bad
    for position, row in enumerate(offered):
        report(row, "succeeded" if position < good else "failed")


def let_time_pass(deployment: Deployment) -> None:
    """Open the phases and make the offers two hours ago."""
    past = timezone.now() - timedelta(hours=2)
    Phase.objects.filter(deployment=deployment, opened_at__isnull=False).update(opened_at=past)
    rows(deployment, offered_at__isnull=False).update(offered_at=past)


def phase_states(deployment: Deployment) -> list[str]:
    return [phase.state for phase in Phase.objects.filter(deployment=deployment)]


def state_of(deployment: Deployment) -> tuple[str, str]:
    deployment.refresh_from_db()
    return deployment.state, deployment.pause_reason


def test_phases_are_filled_one_after_the_other(bundle: Bundle) -> None:
    devices = online(20)
    deployment = make_deployment(bundle, *devices, phases=CANARY)
    assert [phase.device_count for phase in deployment.phases.all()] == [2, 20]
    assert (deployment.device_count, phase_states(deployment)) == (20, ["filling", "pending"])
    tick()
    assert phase_states(deployment) == ["settling", "pending"]
    assert rows(deployment, state="offered").count() == admitted(deployment).count() == 2
    end(deployment, good=2)
    tick()
    assert phase_states(deployment) == ["passed", "settling"]
    assert admitted(deployment, 2).filter(state="offered").count() == 18
    end(deployment, 2, good=18)
    assert complete() == 1
    assert phase_states(deployment) == ["passed", "passed"]
    assert state_of(deployment) == ("finished", "")
    message = Event.objects.get(kind="deployment.phase_passed", data__phase=1).message
    assert message == "Phase 1 of 2 of the deployment of vad@1.0.0 passed: 2 of 2 devices succeeded."


def test_a_failure_in_the_first_phase_stops_the_deployment_with_its_report(bundle: Bundle) -> None:
    """Not a tick later: nothing further can be offered after the report was answered."""
    deployment = make_deployment(bundle, *online(20), phases=CANARY)
    tick()
    end(deployment, good=1, bad=1)
    assert state_of(deployment) == ("paused", "error_threshold")
    assert phase_states(deployment) == ["tripped", "pending"]
    tick()
    assert rows(deployment, phase=None, state="waiting").count() == 18
    kinds = list(Event.objects.filter(deployment_id=deployment.pk).values_list("kind", flat=True))
    assert {"deployment.tripped", "deployment.paused"} <= set(kinds)
    assert Event.objects.get(kind="deployment.tripped").message == (
        "Phase 1 of 2 of the deployment of vad@1.0.0 tripped (too many devices failed): 1 of 2 devices failed."
    )


def test_a_trip_may_cancel_the_deployment(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *online(20), phases=CANARY, on_failure="cancel")
    tick()
    end(deployment, good=1, bad=1)
    assert state_of(deployment) == ("cancelled", "")
    assert deployment.reason_code == "error_threshold"
    assert carry_out_cancels() == 18
    assert complete() == 1
    assert phase_states(deployment) == ["tripped", "skipped"]


def test_a_late_failure_trips_a_phase_that_has_passed(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *online(20), phases=CANARY)
    tick()
    end(deployment, good=2)
    tick()
    assert phase_states(deployment)[0] == "passed"
    report(admitted(deployment).first(), "rolled_back")
    assert state_of(deployment) == ("paused", "error_threshold")
    assert phase_states(deployment) == ["passed", "tripped"]


def test_a_late_failure_in_the_soak_trips(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *online(20), phases=SOAK)
    tick()
    end(deployment, good=2)
    tick()
    assert phase_states(deployment) == ["soaking", "pending"]
    assert Phase.objects.filter(number=1, soak_ends_at__gt=timezone.now()).exists()
    report(admitted(deployment).first(), "rolled_back")
    assert state_of(deployment) == ("paused", "error_threshold")


def test_a_soak_ends(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *online(20), phases=SOAK)
    tick()
    end(deployment, good=2)
    tick()
    tick()
    assert phase_states(deployment) == ["soaking", "pending"]
    Phase.objects.filter(state="soaking").update(soak_ends_at=timezone.now())
    tick()
    assert phase_states(deployment) == ["passed", "settling"]


def test_too_many_failures_over_all_phases_trip(bundle: Bundle) -> None:
    lenient = [PhaseDefinition(percent=50, success_threshold_percent=0, error_threshold_percent=100)]
    lenient.append(PhaseDefinition(success_threshold_percent=0, error_threshold_percent=100))
    deployment = make_deployment(bundle, *online(20), phases=lenient, max_bad=2)
    tick()
    end(deployment, good=8, bad=2)
    tick()
    assert state_of(deployment) == ("running", "")
    end(deployment, 2, bad=1)
    assert state_of(deployment) == ("paused", "error_threshold")


def test_an_offline_device_does_not_block_a_phase(bundle: Bundle) -> None:
    reachable, silent = online(2), [make_device() for _ in range(18)]
    deployment = make_deployment(bundle, *reachable, *silent, phases=CANARY)
    tick()
    assert {row.device_id for row in admitted(deployment)} == {device.pk for device in reachable}
    end(deployment, good=2)
    tick()
    # The last phase admits everybody, so a device that returns later is updated as well.
    assert admitted(deployment, 2).count() == 18


def test_canaries_are_admitted_first_although_they_are_silent(bundle: Bundle) -> None:
    canary, others = make_device(), online(19)
    deployment = make_deployment(bundle, canary, *others, phases=CANARY, canaries=[canary.pk])
    tick()
    assert canary.pk in {row.device_id for row in admitted(deployment)}


def test_every_phase_has_its_share_of_each_stratum(bundle: Bundle) -> None:
    field, lab = make_group("field"), make_group("lab")
    devices = [*online(12, group=field), *online(6, group=lab, tags=["site-a"]), *online(2, group=lab)]
    deployment = make_deployment(
        bundle, *devices, phases=(PhaseDefinition(percent=50), PhaseDefinition()), strata=["group", "tag:site-"]
    )
    assert deployment.stratum_sizes == {"field | ": 12, "lab | site-a": 6, "lab | ": 2}
    tick()
    counts = admitted(deployment).values_list("stratum").annotate(Count("pk"))
    assert dict(counts) == {"field | ": 6, "lab | site-a": 3, "lab | ": 1}


def test_too_many_strata_are_not_mixed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MAX_MIXED_STRATA", 2)
    devices = [device for tag in ("site-a", "site-b", "site-c") for device in online(2, tags=[tag])]
    deployment = make_deployment(bundle, *devices, phases=CANARY, strata=["tag:site-"])
    assert deployment.stratum_sizes == {}
    tick()
    assert admitted(deployment).count() == 1


def test_devices_of_other_strata_take_the_places_of_unreachable_ones(bundle: Bundle) -> None:
    silent = [make_device(group=make_group("field")) for _ in range(10)]
    devices = [*silent, *online(10, group=make_group("lab"))]
    deployment = make_deployment(
        bundle, *devices, phases=(PhaseDefinition(percent=50), PhaseDefinition()), strata=["group"]
    )
    tick()
    assert {row.stratum for row in admitted(deployment)} == {"lab"}
    assert admitted(deployment).count() == 10


def test_a_device_that_does_not_accept_in_time_loses_its_place(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *online(20), phases=CANARY)
    tick()
    silent = admitted(deployment).order_by("rank").first()
    let_time_pass(deployment)
    DeviceDeployment.objects.exclude(pk=silent.pk).filter(state="offered").update(offered_at=timezone.now())
    tick()
    silent.refresh_from_db()
    assert (silent.state, silent.phase_id, silent.attempt) == ("waiting", None, 2)
    assert silent.rank == rows(deployment).order_by("-rank").first().rank
    assert admitted(deployment).filter(state="offered").count() == 2
    assert Phase.objects.get(deployment=deployment, number=1).evicted == 1
    assert not Command.objects.open().filter(device_id=silent.device_id).exists()
    end(deployment, good=2)
    tick()
    silent.refresh_from_db()
    assert (silent.phase.number, silent.state) == (2, "offered")


def test_a_device_that_has_accepted_keeps_its_place(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *online(20), phases=CANARY)
    tick()
    row = admitted(deployment).first()
    report(row, "accepted")
    let_time_pass(deployment)
    tick()
    row.refresh_from_db()
    assert (row.state, row.phase.number) == ("accepted", 1)


def test_the_last_phase_evicts_nobody(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *online(2))
    tick()
    let_time_pass(deployment)
    tick()
    assert rows(deployment, state="offered").count() == 2


def test_too_few_reachable_devices_pause_the_deployment(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *online(1), *(make_device() for _ in range(19)), phases=CANARY)
    tick()
    assert phase_states(deployment) == ["filling", "pending"]
    Phase.objects.filter(state="filling").update(fill_ends_at=timezone.now())
    tick()
    assert state_of(deployment) == ("paused", "not_enough_devices")
    resume_deployment(deployment, Resumption(), actor=ALICE)
    tick()
    assert (state_of(deployment)[0], phase_states(deployment)[0]) == ("running", "filling")
    Phase.objects.filter(state="filling").update(fill_ends_at=timezone.now())
    tick()
    resume_deployment(deployment, Resumption(skip_phase=True), actor=ALICE)
    tick()
    assert phase_states(deployment) == ["skipped", "settling"]


def test_a_phase_without_devices_is_skipped_and_not_judged(bundle: Bundle) -> None:
    """Three phases for one device: the later ones are empty."""
    tiny = (PhaseDefinition(percent=1), PhaseDefinition(percent=50), PhaseDefinition())
    deployment = make_deployment(bundle, *online(1), phases=tiny)
    assert [phase.device_count for phase in deployment.phases.all()] == [1, 1, 1]
    tick()
    end(deployment, good=1)
    assert complete() == 1
    assert phase_states(deployment) == ["passed", "skipped", "skipped"]


def test_counts_never_shrink_from_phase_to_phase(bundle: Bundle) -> None:
    mixed = (PhaseDefinition(count=5), PhaseDefinition(percent=10), PhaseDefinition())
    deployment = make_deployment(bundle, *online(10), phases=mixed)
    assert [phase.device_count for phase in deployment.phases.all()] == [5, 5, 10]


def test_a_gate_waits_for_an_operator(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *online(20), phases=GATE)
    tick()
    end(deployment, good=2)
    tick()
    assert (state_of(deployment), phase_states(deployment)) == (("paused", "manual_gate"), ["gate", "pending"])
    promote_deployment(deployment, actor=ALICE)
    tick()
    assert (state_of(deployment), phase_states(deployment)) == (("running", ""), ["passed", "settling"])
    assert Event.objects.get(kind="deployment.promoted").actor == ALICE


def test_a_promotion_ends_a_soak_early(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *online(20), phases=SOAK)
    tick()
    end(deployment, good=2)
    tick()
    promote_deployment(deployment, actor=ALICE)
    tick()
    assert phase_states(deployment) == ["passed", "settling"]


def test_there_is_nothing_to_promote_in_the_last_phase(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *online(2))
    tick()
    with pytest.raises(Conflict) as caught:
        promote_deployment(deployment, actor=ALICE)
    assert caught.value.code == "nothing_to_promote"


def test_a_pause_takes_back_offers_that_nobody_acknowledged(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *online(4))
    tick()
    accepted = admitted(deployment).first()
    report(accepted, "accepted")
    Command.objects.for_device_deployments([accepted.pk]).update(acknowledged_at=timezone.now())
    for _ in range(2):
        pause_deployment(deployment, actor=ALICE)
    assert state_of(deployment) == ("paused", "operator")
    tick()
    assert admitted(deployment).filter(state="waiting").count() == 3
    report(accepted, "succeeded")
    assert complete() == 0
    for _ in range(2):
        resume_deployment(deployment, Resumption(), actor=ALICE)
    tick()
    assert admitted(deployment).filter(state="offered").count() == 3
    assert Event.objects.filter(kind="deployment.resumed").count() == 1


def test_a_paused_deployment_can_be_cancelled(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *online(4))
    pause_deployment(deployment, actor=ALICE)
    deployment.cancel(ALICE)
    assert carry_out_cancels() == 4
    assert complete() == 1
    with pytest.raises(IllegalTransition):
        pause_deployment(deployment, actor=ALICE)
    with pytest.raises(IllegalTransition):
        resume_deployment(deployment, Resumption(), actor=ALICE)


@pytest.fixture
def tripped(bundle: Bundle) -> Deployment:
    deployment = make_deployment(bundle, *online(40), phases=CANARY)
    tick()
    end(deployment, good=2, bad=2)
    assert state_of(deployment) == ("paused", "error_threshold")
    return deployment


def test_a_trip_needs_a_decision_with_a_reason(tripped: Deployment) -> None:
    with pytest.raises(Conflict) as undecided:
        resume_deployment(tripped, Resumption("try again"), actor=ALICE)
    with pytest.raises(BadRequest) as unexplained:
        resume_deployment(tripped, Resumption(accept_failures=True), actor=ALICE)
    assert (undecided.value.code, unexplained.value.code) == ("decision_required", "reason_required")
    assert state_of(tripped) == ("paused", "error_threshold")


def test_a_raised_threshold_lets_the_deployment_continue(tripped: Deployment) -> None:
    decision = Resumption("two known bad boards", error_threshold_percent=60, success_threshold_percent=50)
    resume_deployment(tripped, decision, actor=ALICE)
    tick()
    assert phase_states(tripped) == ["passed", "settling"]
    event = Event.objects.get(kind="deployment.resumed")
    assert event.message == "The deployment of vad@1.0.0 was resumed: two known bad boards."


def test_a_raise_that_is_too_small_trips_again(tripped: Deployment) -> None:
    resume_deployment(tripped, Resumption("hope", error_threshold_percent=40), actor=ALICE)
    tick()
    assert (state_of(tripped), phase_states(tripped)[0]) == (("paused", "error_threshold"), "tripped")


def test_accepted_failures_no_longer_count_but_new_ones_do(tripped: Deployment) -> None:
    resume_deployment(tripped, Resumption("known", accept_failures=True), actor=ALICE)
    tick()
    assert phase_states(tripped) == ["passed", "settling"]
    assert Phase.objects.get(deployment=tripped, number=1).forgiven == 2
    end(tripped, 2, bad=2)
    assert state_of(tripped) == ("paused", "error_threshold")


def test_a_skipped_phase_is_not_judged(tripped: Deployment) -> None:
    resume_deployment(tripped, Resumption("known", skip_phase=True), actor=ALICE)
    tick()
    assert phase_states(tripped) == ["skipped", "settling"]
    assert state_of(tripped) == ("running", "")


def test_a_phase_that_ended_in_failure_does_not_pass(bundle: Bundle) -> None:
    """All devices of the last phase have ended: there is nothing left to stop, and the outcome tells."""
    deployment = make_deployment(bundle, *online(3))
    tick()
    end(deployment, bad=3)
    assert complete() == 1
    assert (phase_states(deployment), state_of(deployment)) == (["tripped"], ("finished", ""))


def test_two_deployments_that_trip_in_one_tick_both_stop(bundle: Bundle) -> None:
    deployments = [make_deployment(make_bundle(f"{name}@1.0.0"), *online(20), phases=CANARY) for name in ("asr", "kws")]
    tick()
    for deployment in deployments:
        admitted(deployment).update(state="failed", finished_at=timezone.now())
    tick()
    assert [state_of(deployment) for deployment in deployments] == [("paused", "error_threshold")] * 2


def test_a_second_trip_changes_nothing(tripped: Deployment) -> None:
    assert not trip_if_exceeded(tripped.pk)
    assert Event.objects.filter(kind="deployment.tripped").count() == 1


def test_phases_of_the_release_before_are_adopted(bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *online(2))
    Phase.objects.filter(deployment=deployment).update(state="open")
    tick()
    assert phase_states(deployment) == ["settling"]
    assert rows(deployment, state="offered").count() == 2


def test_an_idle_tick_costs_the_same_for_any_number_of_deployments(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for number in range(4):
        make_deployment(make_bundle(f"p{number}@1.0.0"), *online(3))
    tick()
    # The former names of three states; late failures; the deployments, their phases, the counts, and who waits.
    with django_assert_num_queries(8):
        assert advance() == 0


@pytest.mark.parametrize(
    "phases",
    [
        [],
        [PhaseDefinition(percent=10)],
        [PhaseDefinition(), PhaseDefinition()],
        [PhaseDefinition(percent=10, count=5), PhaseDefinition()],
        [PhaseDefinition(percent=20), PhaseDefinition(percent=10), PhaseDefinition()],
        [PhaseDefinition(count=5), PhaseDefinition(count=5), PhaseDefinition()],
        [PhaseDefinition(percent=number) for number in range(1, 21)] + [PhaseDefinition()],
    ],
)
def test_phases_that_make_no_sense_are_refused(bundle: Bundle, phases: list[PhaseDefinition]) -> None:
    with pytest.raises(BadRequest) as caught:
        make_deployment(bundle, *online(1), phases=phases)
    assert caught.value.code == "bad_phases"


@pytest.mark.parametrize("strata", [["colour"], ["tag:"], ["type", "group", "running", "tag:a", "tag:b", "tag:c"]])
def test_unknown_strata_are_refused(bundle: Bundle, strata: list[str]) -> None:
    with pytest.raises(BadRequest) as caught:
        make_deployment(bundle, *online(1), strata=strata)
    assert caught.value.code == "bad_strata"
