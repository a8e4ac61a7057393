"""Operators' decisions in the admin: checked by the models, refused with a message, recorded as events."""

import io
import tarfile
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from bundles.models import Bundle
from deployments.models import Deployment, Selection
from deployments.planning import plan
from devices.models import Device, EnrolmentToken, Group
from foundation.accounts.models import ApiToken
from foundation.events.models import Event
from tests.admin.actions import LISTS, object_url, run_action, shown_messages
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


def event_kinds() -> list[str]:
    return list(Event.objects.order_by("id").values_list("kind", flat=True))


def archive(**contents: bytes) -> SimpleUploadedFile:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return SimpleUploadedFile("bundle.tar.gz", out.getvalue())


def test_an_action_asks_for_confirmation_and_explains_itself(boss: Client) -> None:
    device = make_device(name="edge-1", state="pending")
    confirmation = run_action(boss, "devices", "approve", device, confirmed=False)
    assert confirmation.status_code == 200
    assert "edge-1" in confirmation.content.decode()
    assert "They are offered deployments" in confirmation.content.decode()
    device.refresh_from_db()
    assert device.state == "pending"
    assert shown_messages(run_action(boss, "devices", "approve", device)) == ["Approved: 1."]
    device.refresh_from_db()
    assert device.state == "accepted"
    assert Event.objects.get(kind="device.approved").actor == "operator:alice"


@pytest.mark.parametrize("action", ["approve", "reject", "decommission"])
def test_an_action_on_a_devices_page_redirects_back_to_it(boss: Client, action: str) -> None:
    device = make_device(state="pending")
    response = run_action(boss, "devices", action, device, begun_on="object")
    assert response["Location"] == object_url("devices", device)


def test_a_refusal_is_shown_as_a_message(boss: Client) -> None:
    decommissioned, waiting = make_device(name="edge-1", state="decommissioned"), make_device(state="pending")
    response = run_action(boss, "devices", "approve", decommissioned, waiting)
    assert shown_messages(response) == ["edge-1: A device that is decommissioned cannot be approved.", "Approved: 1."]


def test_editing_a_device_changes_only_the_operators_fields(boss: Client) -> None:
    device = make_device(name="old", device_type="edge", metrics={"cpu": 1})
    other = make_group("other")
    reported = {"device_type": "toaster", "metrics": "{}", "state": "pending", "public_key": "x", "agent_version": "9"}
    body = {"name": "new", "group": other.pk, "tags": "outdoor,roof", **reported}
    assert boss.post(object_url("devices", device), body).status_code == 302
    changed = Device.objects.get()
    assert (changed.name, changed.group, changed.tags) == ("new", other, ["outdoor", "roof"])
    for field in ("device_type", "metrics", "state", "public_key", "agent_version"):
        assert getattr(changed, field) == getattr(device, field)
    assert Event.objects.get(kind="device.edited").actor == "operator:alice"


def test_a_bad_tag_is_refused(boss: Client) -> None:
    device = make_device()
    response = boss.post(
        object_url("devices", device), {"name": "", "group": device.group_id, "tags": "no spaces here"}
    )
    assert response.status_code == 200
    assert Device.objects.get().tags == []


def test_creating_and_editing_a_group_records_events(boss: Client) -> None:
    body = {"name": "lab", "description": "", "interval_seconds": 30}
    assert boss.post(f"{LISTS['groups']}add/", body).status_code == 302
    group = Group.objects.get()
    assert boss.post(object_url("groups", group), {**body, "interval_seconds": 15}).status_code == 302
    group.refresh_from_db()
    assert group.interval_seconds == 15
    assert event_kinds() == ["group.made", "group.edited"]


@pytest.mark.parametrize(
    "invalid_fields", [{"name": "lab"}, {"name": "two words"}, {"interval_seconds": 0}, {"name": ""}]
)
def test_an_invalid_group_is_refused_on_the_form(boss: Client, invalid_fields: dict[str, object]) -> None:
    make_group("lab")
    response = boss.post(f"{LISTS['groups']}add/", {"name": "new", "interval_seconds": 60, **invalid_fields})
    assert response.status_code == 200
    assert Group.objects.count() == 1


def test_a_lost_race_for_a_group_name_is_shown_as_a_message(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    make_group("lab")
    monkeypatch.setattr(Group, "validate_unique", lambda *args, **kwargs: None)
    monkeypatch.setattr(Group, "validate_constraints", lambda *args, **kwargs: None)
    response = boss.post(f"{LISTS['groups']}add/", {"name": "lab", "interval_seconds": 60})
    assert shown_messages(response) == ["A group with this name already exists."]


def test_the_secret_of_an_enrolment_token_is_shown_once(boss: Client) -> None:
    body = {"name": "cameras", "group": make_group().pk, "uses_allowed": 5, **EXPIRY}
    shown_text = boss.post(f"{LISTS['tokens']}add/", body)
    assert "no-store" in shown_text["Cache-Control"]
    token = EnrolmentToken.objects.get()
    secret = shown_text.context["secret"]
    assert EnrolmentToken.objects.for_secret(secret).get() == token
    assert secret in shown_text.content.decode()
    assert secret not in boss.get(object_url("tokens", token)).content.decode()
    assert secret not in boss.get(LISTS["tokens"]).content.decode()
    assert secret not in str(list(Event.objects.values_list("message", "data")))
    assert event_kinds() == ["token.issued"]


@pytest.mark.parametrize(
    "invalid_fields", [{"uses_allowed": 0}, {"uses_allowed": 10**7}, {"expires_at_0": "2020-01-01"}]
)
def test_an_invalid_enrolment_token_is_refused_on_the_form(boss: Client, invalid_fields: dict[str, object]) -> None:
    body = {"name": "cameras", "group": make_group().pk, "uses_allowed": 5, **EXPIRY, **invalid_fields}
    assert boss.post(f"{LISTS['tokens']}add/", body).status_code == 200
    assert not EnrolmentToken.objects.exists()


def test_tokens_are_revoked(boss: Client, alice: User) -> None:
    token, _ = make_enrolment_token()
    api_token, _ = ApiToken.issue(alice, "viewer", "mine", actor="operator:alice")
    run_action(boss, "tokens", "revoke", token)
    run_action(boss, "API tokens", "revoke", api_token)
    assert not EnrolmentToken.objects.usable().exists()
    assert not ApiToken.objects.usable().exists()
    assert event_kinds()[-2:] == ["token.revoked", "api_token.revoked"]


def test_the_secret_of_an_api_token_is_shown_once(boss: Client, alice: User) -> None:
    shown_text = boss.post(f"{LISTS['API tokens']}add/", {"name": "ci", "user": alice.pk, "role": "publisher"})
    assert "no-store" in shown_text["Cache-Control"]
    assert ApiToken.objects.for_secret(shown_text.context["secret"]).get().role == "publisher"
    assert event_kinds() == ["api_token.issued"]


def test_a_bundle_is_deployed_to_chosen_devices(boss: Client) -> None:
    chosen, other, bundle = make_device(), make_device(), make_bundle()
    response = run_action(boss, "devices", "deploy", chosen, bundle=bundle.pk, note="trial")
    plan()
    deployment = Deployment.objects.get()
    assert response["Location"] == object_url("deployments", deployment)
    assert (deployment.note, deployment.created_by.get_username()) == ("trial", "alice")  # type: ignore[union-attr]
    assert [device_deployment.device_id for device_deployment in deployment.device_deployments.all()] == [chosen.pk]
    assert other.pk not in {device_deployment.device_id for device_deployment in deployment.device_deployments.all()}


def test_deploying_without_a_ready_bundle_shows_a_message(boss: Client) -> None:
    make_bundle(state="draft")
    response = run_action(boss, "devices", "deploy", make_device(), confirmed=False)
    assert shown_messages(response) == ["No bundle is ready. Publish one first."]


@pytest.mark.parametrize("state", ["draft", "withdrawn"])
def test_a_bundle_that_is_not_ready_cannot_be_chosen(boss: Client, state: str) -> None:
    make_bundle("vad@1.0.0")
    unready = make_bundle("vad@2.0.0", state=state)
    response = run_action(boss, "devices", "deploy", make_device(), bundle=unready.pk)
    assert "Select a valid choice" in response.content.decode()
    assert not Deployment.objects.exists()


def test_deploying_without_an_accepted_device_shows_a_message(boss: Client) -> None:
    response = run_action(boss, "devices", "deploy", make_device(state="pending"), bundle=make_bundle().pk)
    assert shown_messages(response) == [
        "No device can receive vad@1.0.0: none of the chosen devices is accepted (approve the pending ones)."
    ]


def test_deploying_to_groups_asks_for_confirmation_with_the_device_count(boss: Client) -> None:
    device, bundle = make_device(), make_bundle()
    make_device(state="pending")
    body = {"bundle": bundle.pk, "groups": [device.group_id], "note": "all <of> them"}
    confirmation_page = boss.post(f"{LISTS['deployments']}add/", body)
    assert confirmation_page.status_code == 200
    page = confirmation_page.content.decode()
    assert "<strong>1</strong> device would take part" in page
    for field in ('name="bundle"', 'name="groups"', 'value="all &lt;of&gt; them"', 'name="confirmed" value="yes"'):
        assert field in page
    assert not Deployment.objects.exists()
    response = boss.post(f"{LISTS['deployments']}add/", {**body, "confirmed": "yes"})
    deployment = Deployment.objects.get()
    assert response["Location"] == object_url("deployments", deployment)
    assert (deployment.note, deployment.created_by.get_username()) == ("all <of> them", "alice")  # type: ignore[union-attr]
    assert event_kinds()[-1] == "deployment.started"
    assert shown_messages(response) == ["The deployment of vad@1.0.0 was started."]


def test_deploying_to_the_matches_of_a_query(boss: Client) -> None:
    field, bundle = make_group("field"), make_bundle()
    for board, tags in (("r5", []), ("r5", ["canary"]), ("r4", [])):
        make_device(group=field, attributes={"board": board}, tags=tags)
    body = {"bundle": bundle.pk, "query": "attr.board = r5", "exclude": "tag = canary", "note": ""}
    page = boss.post(f"{LISTS['deployments']}add/", body).content.decode()
    assert "<strong>1</strong> device would take part" in page
    assert "attr.board = r5" in page
    boss.post(f"{LISTS['deployments']}add/", {**body, "confirmed": "yes"})
    selection = Selection.objects.get()
    assert (selection.query, selection.exclude) == ("attr.board = r5", "tag = canary")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "Choose at least one group, or give a query."),
        ({"query": "agnet = 1"}, "Did you mean `agent`? (at character 1)"),
        ({"query": "a", "exclude": "name ="}, "expected a value. (at character 7)"),
    ],
)
def test_a_deployment_needs_a_valid_selection(boss: Client, fields: dict[str, str], error: str) -> None:
    response = boss.post(f"{LISTS['deployments']}add/", {"bundle": make_bundle().pk, "note": "", **fields})
    assert error in response.content.decode()
    assert not Deployment.objects.exists()


def test_deploying_without_permission_is_refused_before_the_confirmation(staff: Callable[..., Client]) -> None:
    body = {"bundle": make_bundle().pk, "groups": [make_group().pk], "note": ""}
    viewer = staff("deployments.view_deployment")
    for extra_fields in ({}, {"confirmed": "yes"}):
        response = viewer.post(f"{LISTS['deployments']}add/", {**body, **extra_fields})
        assert response.status_code == 403
    assert not Deployment.objects.exists()


def test_deploying_to_an_empty_group_shows_a_message(boss: Client) -> None:
    body = {"bundle": make_bundle().pk, "groups": [make_group("empty").pk], "note": "", "confirmed": "yes"}
    response = boss.post(f"{LISTS['deployments']}add/", body)
    assert shown_messages(response) == ["No device can receive vad@1.0.0: the chosen groups are empty."]
    assert not Deployment.objects.exists()


def test_an_invalid_deployment_is_refused_on_the_form(boss: Client) -> None:
    response = boss.post(f"{LISTS['deployments']}add/", {"bundle": "", "groups": [], "note": ""})
    assert "This field is required." in response.content.decode()


def test_a_finished_deployment_cannot_be_cancelled(boss: Client) -> None:
    running, finished = make_deployment(make_bundle(), make_device()), make_device_deployment("succeeded").deployment
    Deployment.objects.filter(pk=finished.pk).update(state="finished", finished_at="2026-01-01T00:00:00Z")
    messages = shown_messages(run_action(boss, "deployments", "cancel", running, finished))
    assert "The deployment is finished and cannot be cancelled." in messages[0]
    assert messages[1] == "Cancelled: 1."


def test_an_archive_becomes_a_draft(boss: Client) -> None:
    body = {"name": "vad", "version": "1.0.0", "archive": archive(model=b"weights")}
    response = boss.post(f"{LISTS['bundles']}add/", body)
    bundle = Bundle.objects.get()
    assert response["Location"] == object_url("bundles", bundle)
    assert (bundle.state, bundle.created_by.get_username()) == ("draft", "alice")  # type: ignore[union-attr]
    assert Event.objects.get(kind="bundle.drafted").actor == "operator:alice"


@pytest.mark.parametrize(
    ("body", "shown_text"),
    [
        ({"name": "Vad"}, "lowercase letters"),
        ({"version": ""}, "This field is required."),
    ],
)
def test_invalid_fields_of_an_archive_are_shown_on_the_form(
    boss: Client, body: dict[str, object], shown_text: str
) -> None:
    make_bundle("vad@1.0.0")
    response = boss.post(
        f"{LISTS['bundles']}add/", {"name": "vad", "version": "2.0.0", "archive": archive(a=b"b"), **body}
    )
    assert response.status_code == 200
    assert shown_text in response.content.decode()
    assert Bundle.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"archive": SimpleUploadedFile("a.tar", b"not an archive")}, "not a tar"),
        ({"version": "1.0.0"}, "exists with a different manifest"),
    ],
)
def test_a_refused_archive_is_shown_as_a_message(boss: Client, body: dict[str, object], message: str) -> None:
    make_bundle("vad@1.0.0")
    add = f"{LISTS['bundles']}add/"
    response = boss.post(add, {"name": "vad", "version": "2.0.0", "archive": archive(a=b"b"), **body})
    assert response["Location"] == add
    assert message in shown_messages(response)[-1]
    assert Bundle.objects.count() == 1


def test_bundles_are_published_and_withdrawn(boss: Client) -> None:
    draft, ready = make_bundle("vad@1.0.0", state="draft"), make_bundle("vad@2.0.0")
    run_action(boss, "bundles", "publish", draft)
    run_action(boss, "bundles", "withdraw", ready)
    assert dict(Bundle.objects.values_list("version", "state")) == {"1.0.0": "verifying", "2.0.0": "withdrawn"}
    assert "is withdrawn and cannot be published" in shown_messages(run_action(boss, "bundles", "publish", ready))[-1]


def test_discarding_a_draft_redirects_to_the_list(boss: Client) -> None:
    draft, ready = make_bundle("vad@1.0.0", state="draft"), make_bundle("vad@2.0.0")
    response = run_action(boss, "bundles", "discard", draft, begun_on="object")
    assert response["Location"] == LISTS["bundles"]
    assert shown_messages(response) == ["Discarded: 1."]
    assert "only a draft can be discarded" in shown_messages(run_action(boss, "bundles", "discard", ready))[-1]
    assert [str(bundle) for bundle in Bundle.objects.all()] == ["vad@2.0.0"]


def test_ten_wrong_passwords_show_the_lockout_page(client: Client, alice: User) -> None:
    for _ in range(10):
        response = client.post("/admin/login/", {"username": "alice", "password": "wrong"})
    assert response.status_code == 429
    assert "Too many wrong passwords" in response.content.decode()
    correct_sign_in = client.post("/admin/login/", {"username": "alice", "password": "correct horse battery"})
    assert correct_sign_in.status_code == 429


def test_refusals_are_html_pages(staff: object, client: Client, boss: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    assert "open for too long" in strict.post("/admin/login/", {"username": "alice"}).content.decode()
    assert "There is no page at this URL" in boss.get("/admin/nonsense").content.decode()
