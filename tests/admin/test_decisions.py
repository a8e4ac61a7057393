"""What operators decide goes through the rooms: it is checked, refused with a sentence, and leaves an event."""

import io
import tarfile
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from bundles.models import Bundle
from deployments.models import Deployment
from deployments.planning import plan
from devices.models import Device, EnrolmentToken, Group
from foundation.accounts.models import ApiToken
from foundation.events.models import Event
from tests.admin.acting import LISTS, act, page_of, said
from tests.factories import (
    make_bundle,
    make_deployment,
    make_device,
    make_device_deployment,
    make_enrolment_token,
    make_group,
)

pytestmark = pytest.mark.django_db
EXPIRY = {"expires_at_0": "2030-01-01", "expires_at_1": "12:00:00"}


def kinds() -> list[str]:
    return list(Event.objects.order_by("id").values_list("kind", flat=True))


def archive(**contents: bytes) -> SimpleUploadedFile:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return SimpleUploadedFile("bundle.tar.gz", out.getvalue())


def test_an_action_asks_first_and_says_what_it_does(boss: Client) -> None:
    device = make_device(name="edge-1", state="pending")
    asked = act(boss, "devices", "approve", device, confirmed=False)
    assert asked.status_code == 200
    assert "edge-1" in asked.content.decode()
    assert "They are offered deployments" in asked.content.decode()
    device.refresh_from_db()
    assert device.state == "pending"
    assert said(act(boss, "devices", "approve", device)) == ["Approved: 1."]
    device.refresh_from_db()
    assert device.state == "accepted"
    assert Event.objects.get(kind="device.approved").actor == "operator:alice"


@pytest.mark.parametrize("action", ["approve", "reject", "decommission"])
def test_a_device_is_decided_on_from_its_own_page_and_leads_back_there(boss: Client, action: str) -> None:
    device = make_device(state="pending")
    answer = act(boss, "devices", action, device, begun_on="object")
    assert answer["Location"] == page_of("devices", device)


def test_a_refusal_of_the_room_becomes_a_message(boss: Client) -> None:
    gone, waiting = make_device(name="edge-1", state="decommissioned"), make_device(state="pending")
    answer = act(boss, "devices", "approve", gone, waiting)
    assert said(answer) == ["edge-1: A device that is decommissioned cannot be approved.", "Approved: 1."]


def test_edits_of_a_device_change_what_operators_decide_alone(boss: Client) -> None:
    device = make_device(name="old", device_type="edge", metrics={"cpu": 1})
    other = make_group("other")
    reported = {"device_type": "toaster", "metrics": "{}", "state": "pending", "public_key": "x", "agent_version": "9"}
    body = {"name": "new", "group": other.pk, "tags": "outdoor,roof", **reported}
    assert boss.post(page_of("devices", device), body).status_code == 302
    changed = Device.objects.get()
    assert (changed.name, changed.group, changed.tags) == ("new", other, ["outdoor", "roof"])
    for field in ("device_type", "metrics", "state", "public_key", "agent_version"):
        assert getattr(changed, field) == getattr(device, field)
    assert Event.objects.get(kind="device.edited").actor == "operator:alice"


def test_a_bad_tag_is_refused(boss: Client) -> None:
    device = make_device()
    answer = boss.post(page_of("devices", device), {"name": "", "group": device.group_id, "tags": "no spaces here"})
    assert answer.status_code == 200
    assert Device.objects.get().tags == []


def test_groups_are_made_and_edited_through_the_room(boss: Client) -> None:
    body = {"name": "lab", "description": "", "interval_seconds": 30}
    assert boss.post(f"{LISTS['groups']}add/", body).status_code == 302
    group = Group.objects.get()
    assert boss.post(page_of("groups", group), {**body, "interval_seconds": 15}).status_code == 302
    group.refresh_from_db()
    assert group.interval_seconds == 15
    assert kinds() == ["group.made", "group.edited"]


@pytest.mark.parametrize("wrong", [{"name": "lab"}, {"name": "two words"}, {"interval_seconds": 0}, {"name": ""}])
def test_a_wrong_group_is_refused_on_the_form(boss: Client, wrong: dict[str, object]) -> None:
    make_group("lab")
    answer = boss.post(f"{LISTS['groups']}add/", {"name": "new", "interval_seconds": 60, **wrong})
    assert answer.status_code == 200
    assert Group.objects.count() == 1


def test_a_name_that_somebody_else_took_meanwhile_becomes_a_message(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_group("lab")
    monkeypatch.setattr(Group, "validate_unique", lambda *args, **kwargs: None)
    monkeypatch.setattr(Group, "validate_constraints", lambda *args, **kwargs: None)
    answer = boss.post(f"{LISTS['groups']}add/", {"name": "lab", "interval_seconds": 60})
    assert said(answer) == ["There is a group of this name already."]


def test_the_secret_of_an_enrolment_token_is_shown_once(boss: Client) -> None:
    body = {"name": "cameras", "group": make_group().pk, "uses_allowed": 5, **EXPIRY}
    shown = boss.post(f"{LISTS['tokens']}add/", body)
    assert "no-store" in shown["Cache-Control"]
    token = EnrolmentToken.objects.get()
    secret = shown.context["secret"]
    assert EnrolmentToken.objects.for_secret(secret).get() == token
    assert secret in shown.content.decode()
    assert secret not in boss.get(page_of("tokens", token)).content.decode()
    assert secret not in boss.get(LISTS["tokens"]).content.decode()
    assert secret not in str(list(Event.objects.values_list("message", "data")))
    assert kinds() == ["token.issued"]


@pytest.mark.parametrize("wrong", [{"uses_allowed": 0}, {"uses_allowed": 10**7}, {"expires_at_0": "2020-01-01"}])
def test_a_wrong_enrolment_token_is_refused_on_the_form(boss: Client, wrong: dict[str, object]) -> None:
    body = {"name": "cameras", "group": make_group().pk, "uses_allowed": 5, **EXPIRY, **wrong}
    assert boss.post(f"{LISTS['tokens']}add/", body).status_code == 200
    assert not EnrolmentToken.objects.exists()


def test_tokens_are_revoked(boss: Client, alice: User) -> None:
    token, _ = make_enrolment_token()
    api_token, _ = ApiToken.issue(alice, "viewer", "mine", actor="operator:alice")
    act(boss, "tokens", "revoke", token)
    act(boss, "API tokens", "revoke", api_token)
    assert not EnrolmentToken.objects.usable().exists()
    assert not ApiToken.objects.usable().exists()
    assert kinds()[-2:] == ["token.revoked", "api_token.revoked"]


def test_an_api_token_is_shown_once(boss: Client, alice: User) -> None:
    shown = boss.post(f"{LISTS['API tokens']}add/", {"name": "ci", "user": alice.pk, "role": "publisher"})
    assert "no-store" in shown["Cache-Control"]
    assert ApiToken.objects.for_secret(shown.context["secret"]).get().role == "publisher"
    assert kinds() == ["api_token.issued"]


def test_a_bundle_is_deployed_to_chosen_devices(boss: Client) -> None:
    chosen, other, bundle = make_device(), make_device(), make_bundle()
    answer = act(boss, "devices", "deploy", chosen, bundle=bundle.pk, note="trial")
    plan()
    deployment = Deployment.objects.get()
    assert answer["Location"] == page_of("deployments", deployment)
    assert (deployment.note, deployment.created_by.get_username()) == ("trial", "alice")  # type: ignore[union-attr]
    assert [row.device_id for row in deployment.device_deployments.all()] == [chosen.pk]
    assert other.pk not in {row.device_id for row in deployment.device_deployments.all()}


def test_deploying_without_a_ready_bundle_says_so(boss: Client) -> None:
    make_bundle(state="draft")
    answer = act(boss, "devices", "deploy", make_device(), confirmed=False)
    assert said(answer) == ["No bundle is ready. Publish one first."]


@pytest.mark.parametrize("state", ["draft", "withdrawn"])
def test_a_bundle_that_is_not_ready_cannot_be_chosen(boss: Client, state: str) -> None:
    make_bundle("vad@1.0.0")
    wrong = make_bundle("vad@2.0.0", state=state)
    answer = act(boss, "devices", "deploy", make_device(), bundle=wrong.pk)
    assert "Select a valid choice" in answer.content.decode()
    assert not Deployment.objects.exists()


def test_deploying_to_nobody_who_may_take_it_becomes_a_message(boss: Client) -> None:
    answer = act(boss, "devices", "deploy", make_device(state="pending"), bundle=make_bundle().pk)
    assert said(answer) == [
        "No device can take vad@1.0.0: none of the chosen devices is accepted (approve those that wait)."
    ]


def test_deploying_to_groups_asks_first_and_says_to_how_many_devices(boss: Client) -> None:
    device, bundle = make_device(), make_bundle()
    make_device(state="pending")
    body = {"bundle": bundle.pk, "groups": [device.group_id], "note": "all <of> them"}
    question = boss.post(f"{LISTS['deployments']}add/", body)
    assert question.status_code == 200
    page = question.content.decode()
    assert "<strong>1</strong> accepted device in:" in page
    for field in ('name="bundle"', 'name="groups"', 'value="all &lt;of&gt; them"', 'name="confirmed" value="yes"'):
        assert field in page
    assert not Deployment.objects.exists()
    answer = boss.post(f"{LISTS['deployments']}add/", {**body, "confirmed": "yes"})
    deployment = Deployment.objects.get()
    assert answer["Location"] == page_of("deployments", deployment)
    assert (deployment.note, deployment.created_by.get_username()) == ("all <of> them", "alice")  # type: ignore[union-attr]
    assert kinds()[-1] == "deployment.started"
    assert said(answer) == ["The deployment of vad@1.0.0 was started."]


def test_deploying_without_a_permission_is_refused_before_the_question(staff: Callable[..., Client]) -> None:
    body = {"bundle": make_bundle().pk, "groups": [make_group().pk], "note": ""}
    viewer = staff("deployments.view_deployment")
    for more in ({}, {"confirmed": "yes"}):
        answer = viewer.post(f"{LISTS['deployments']}add/", {**body, **more})
        assert answer.status_code == 403
    assert not Deployment.objects.exists()


def test_deploying_to_an_empty_group_becomes_a_message(boss: Client) -> None:
    body = {"bundle": make_bundle().pk, "groups": [make_group("empty").pk], "note": "", "confirmed": "yes"}
    answer = boss.post(f"{LISTS['deployments']}add/", body)
    assert said(answer) == ["No device can take vad@1.0.0: the chosen groups are empty."]
    assert not Deployment.objects.exists()


def test_a_wrong_deployment_is_refused_on_the_form(boss: Client) -> None:
    answer = boss.post(f"{LISTS['deployments']}add/", {"bundle": "", "groups": [], "note": ""})
    assert "This field is required." in answer.content.decode()


def test_a_finished_deployment_cannot_be_cancelled(boss: Client) -> None:
    running, done = make_deployment(make_bundle(), make_device()), make_device_deployment("succeeded").deployment
    Deployment.objects.filter(pk=done.pk).update(state="finished", finished_at="2026-01-01T00:00:00Z")
    messages = said(act(boss, "deployments", "cancel", running, done))
    assert "The deployment is finished and cannot be cancelled." in messages[0]
    assert messages[1] == "Cancelled: 1."


def test_an_archive_becomes_a_draft(boss: Client) -> None:
    body = {"name": "vad", "version": "1.0.0", "archive": archive(model=b"weights")}
    answer = boss.post(f"{LISTS['bundles']}add/", body)
    bundle = Bundle.objects.get()
    assert answer["Location"] == page_of("bundles", bundle)
    assert (bundle.state, bundle.created_by.get_username()) == ("draft", "alice")  # type: ignore[union-attr]
    assert Event.objects.get(kind="bundle.drafted").actor == "operator:alice"


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"name": "Vad"}, "small letters"),
        ({"version": ""}, "This field is required."),
    ],
)
def test_what_is_wrong_with_an_archive_stands_on_the_form(boss: Client, body: dict[str, object], shown: str) -> None:
    make_bundle("vad@1.0.0")
    answer = boss.post(
        f"{LISTS['bundles']}add/", {"name": "vad", "version": "2.0.0", "archive": archive(a=b"b"), **body}
    )
    assert answer.status_code == 200
    assert shown in answer.content.decode()
    assert Bundle.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"archive": SimpleUploadedFile("a.tar", b"not an archive")}, "not a tar"),
        ({"version": "1.0.0"}, "exists with another manifest"),
    ],
)
def test_an_archive_that_makes_no_draft_is_a_message(boss: Client, body: dict[str, object], message: str) -> None:
    make_bundle("vad@1.0.0")
    add = f"{LISTS['bundles']}add/"
    answer = boss.post(add, {"name": "vad", "version": "2.0.0", "archive": archive(a=b"b"), **body})
    assert answer["Location"] == add
    assert message in said(answer)[-1]
    assert Bundle.objects.count() == 1


def test_bundles_are_published_and_withdrawn(boss: Client) -> None:
    drafted, ready = make_bundle("vad@1.0.0", state="draft"), make_bundle("vad@2.0.0")
    act(boss, "bundles", "publish", drafted)
    act(boss, "bundles", "withdraw", ready)
    assert dict(Bundle.objects.values_list("version", "state")) == {"1.0.0": "verifying", "2.0.0": "withdrawn"}
    assert "is withdrawn and cannot be published" in said(act(boss, "bundles", "publish", ready))[-1]


def test_a_draft_is_discarded_and_leads_back_to_the_list(boss: Client) -> None:
    drafted, ready = make_bundle("vad@1.0.0", state="draft"), make_bundle("vad@2.0.0")
    answer = act(boss, "bundles", "discard", drafted, begun_on="object")
    assert answer["Location"] == LISTS["bundles"]
    assert said(answer) == ["Discarded: 1."]
    assert "only a draft can be discarded" in said(act(boss, "bundles", "discard", ready))[-1]
    assert [str(bundle) for bundle in Bundle.objects.all()] == ["vad@2.0.0"]


def test_ten_wrong_passwords_lead_to_a_page_that_says_so(client: Client, alice: User) -> None:
    for _ in range(10):
        answer = client.post("/admin/login/", {"username": "alice", "password": "wrong"})
    assert answer.status_code == 429
    assert "Too many wrong passwords" in answer.content.decode()
    right = client.post("/admin/login/", {"username": "alice", "password": "correct horse battery"})
    assert right.status_code == 429


def test_refusals_are_pages(staff: object, client: Client, boss: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    assert "open for too long" in strict.post("/admin/login/", {"username": "alice"}).content.decode()
    assert "There is no page at this URL" in boss.get("/admin/nonsense").content.decode()
