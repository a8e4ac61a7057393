"""Deployments in phases in the admin: the form, the page, and the decisions."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from deployments.models import Deployment, DeviceDeployment, Phase, Preview
from deployments.phases.advance import advance
from deployments.phases.definition import PhaseDefinition
from deployments.previews import counting
from deployments.previews.counting import compute_previews
from foundation.events.models import Event
from tests.admin.actions import LISTS, object_url, run_action, shown_messages
from tests.factories import make_bundle, make_deployment, make_device, make_group

pytestmark = pytest.mark.django_db
PHASES = (PhaseDefinition(count=2, manual_gate=True), PhaseDefinition())


@pytest.fixture
def deployment() -> Deployment:
    """A deployment of two phases; the first one has two devices."""
    now = timezone.now()
    deployment = make_deployment(make_bundle(), *(make_device(last_heartbeat_at=now) for _ in range(8)), phases=PHASES)
    advance()
    return deployment


def end(deployment: Deployment, state: str) -> None:
    DeviceDeployment.objects.filter(deployment=deployment, phase__number=1).update(
        state=state, finished_at=timezone.now()
    )
    advance()
    deployment.refresh_from_db()


def form(**fields: Any) -> dict[str, Any]:
    bundle, group = make_bundle(), make_group()
    make_device(group=group)
    return {"bundle": str(bundle.pk), "groups": [str(group.pk)], "on_failure": "pause", "confirmed": "yes", **fields}


def test_the_form_describes_the_phases(boss: Client) -> None:
    fields = form(phases="10%, 50, all", soak_minutes="30", manual_gate="on", on_failure="cancel")
    asked = boss.post(f"{LISTS['deployments']}add/", fields | {"confirmed": ""})
    assert "observed for 30 min, then waits for you" in asked.content.decode()
    boss.post(f"{LISTS['deployments']}add/", fields)
    deployment = Deployment.objects.get()
    assert deployment.on_failure == "cancel"
    phases = Phase.objects.filter(deployment=deployment)
    assert [(phase.percent, phase.count, phase.soak_seconds, phase.manual_gate) for phase in phases] == [
        (10, None, 1800, True), (None, 50, 1800, True), (None, None, 1800, False),
    ]  # fmt: skip


def test_no_phases_are_a_single_one(boss: Client) -> None:
    boss.post(f"{LISTS['deployments']}add/", form())
    assert Phase.objects.count() == 1


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ("10%, 50%", "The last phase takes all devices: end the list with 100% or all."),
        ("ten, all", "&#x27;ten&#x27; is not the size of a phase: write 10% or 50."),
        ("50%, 10%, all", "Each phase must be larger than the one before: sizes are cumulative."),
        ("101%, all", "&#x27;101%&#x27; is not the size of a phase: write 10% or 50."),
    ],
)
def test_sizes_that_make_no_sense_are_explained(boss: Client, sizes: str, message: str) -> None:
    page = boss.post(f"{LISTS['deployments']}add/", form(phases=sizes)).content.decode()
    assert message in page.replace("&quot;", '"')
    assert not Deployment.objects.exists()


def test_the_page_says_what_happens_next(boss: Client, deployment: Deployment) -> None:
    page = boss.get(object_url("deployments", deployment)).content.decode()
    assert "Phase 1 of 2 waits for the results of 2 devices." in page
    assert "Pause" in page
    assert 'value="resume"' not in page
    progress = boss.get(f"/admin/deployments/deployment/{deployment.pk}/progress").json()
    assert [(phase["title"], phase["state"], phase["devices"]) for phase in progress["phases"]] == [
        ("Phase 1", "settling", "2 of 2"), ("Phase 2", "pending", "0 of 6"),
    ]  # fmt: skip


def test_a_deployment_is_paused_and_resumed(boss: Client, deployment: Deployment) -> None:
    assert shown_messages(run_action(boss, "deployments", "pause", deployment)) == ["Paused: 1."]
    page = boss.get(object_url("deployments", deployment)).content.decode()
    assert "An operator paused the deployment." in page
    assert shown_messages(run_action(boss, "deployments", "resume", deployment)) == ["Resumed: 1."]
    deployment.refresh_from_db()
    assert deployment.state == "running"


def test_a_gate_is_passed(boss: Client, deployment: Deployment) -> None:
    end(deployment, "succeeded")
    page = boss.get(object_url("deployments", deployment)).content.decode()
    assert "Phase 1 of 2 has succeeded and waits at its gate." in page
    assert "Begin the next phase" in page
    assert shown_messages(run_action(boss, "deployments", "promote", deployment)) == ["Promoted: 1."]
    assert list(Phase.objects.values_list("state", flat=True)) == ["passed", "pending"]


def test_a_trip_needs_a_decision_and_a_reason(boss: Client, deployment: Deployment) -> None:
    end(deployment, "failed")
    page = boss.get(object_url("deployments", deployment)).content.decode()
    assert "Phase 1 of 2 tripped: too many devices failed." in page
    (refused,) = shown_messages(run_action(boss, "deployments", "resume", deployment))
    assert "Raise a threshold, accept the failures, or skip the phase." in refused
    unexplained = run_action(boss, "deployments", "resume", deployment, decision="accept_failures")
    assert "Enter the reason for this decision." in unexplained.content.decode()
    nameless = run_action(boss, "deployments", "resume", deployment, decision="error_threshold_percent", reason="x")
    assert "Enter the new threshold." in nameless.content.decode()
    run_action(boss, "deployments", "resume", deployment, decision="skip_phase", reason="known boards")
    deployment.refresh_from_db()
    assert deployment.state == "running"
    assert Event.objects.get(kind="deployment.resumed").data["reason"] == "known boards"


def test_a_threshold_is_raised(boss: Client, deployment: Deployment) -> None:
    end(deployment, "failed")
    fields: dict[str, Any] = {"decision": "error_threshold_percent", "percent": "100", "reason": "known"}
    run_action(boss, "deployments", "resume", deployment, **fields)
    assert Phase.objects.get(number=1).error_threshold_percent == 100


def test_the_confirmation_shows_what_would_happen(boss: Client) -> None:
    fields = form(phases="1, all")
    make_device(name="pending-1", state="pending")
    page = boss.post(f"{LISTS['deployments']}add/", fields | {"confirmed": ""}).content.decode()
    assert "<strong>1</strong> device would take part" in page
    assert "1 failure" in page
    assert "not accepted, such as" in page
    assert "pending-1" in page


def test_a_preview_that_is_not_ready_is_polled(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "BATCH", 1)
    page = boss.post(f"{LISTS['deployments']}add/", form(query="type = edge") | {"confirmed": ""}).content.decode()
    assert "still counting" in page
    preview = Preview.objects.get()
    url = reverse("admin:deployment-preview", args=[preview.pk])
    assert f'data-url="{url}" data-state="computing"' in page
    assert boss.get(url)["X-Preview-State"] == "computing"
    compute_previews()
    fragment = boss.get(url)
    assert fragment["X-Preview-State"] == "ready"
    assert "would take part" in fragment.content.decode()
    assert "<html" not in fragment.content.decode()


def test_a_selection_without_devices_cannot_be_confirmed(boss: Client) -> None:
    empty = make_group("empty")
    page = boss.post(f"{LISTS['deployments']}add/", form(groups=[str(empty.pk)]) | {"confirmed": ""}).content.decode()
    assert "the chosen groups are empty" in page
    assert 'name="confirmed"' not in page
