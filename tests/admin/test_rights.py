"""Who may do what: each action needs its permission, and what happened is never edited."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group as UserGroup
from django.contrib.auth.models import Permission, User
from django.db.models import Model
from django.test import Client

from deployments.models import Deployment
from devices.models import Device
from foundation.accounts.models import ApiToken
from foundation.events.models import Event, record_event
from tests.admin.acting import LISTS, act, page_of, said
from tests.factories import make_bundle, make_deployment, make_device, make_enrolment_token, make_group, make_user

pytestmark = pytest.mark.django_db
Staff = Callable[..., Client]


@pytest.mark.parametrize("page", LISTS)
def test_staff_without_permission_get_403(staff: Staff, page: str) -> None:
    assert staff().get(LISTS[page]).status_code == 403


@pytest.mark.parametrize("page", LISTS)
def test_strangers_are_asked_to_log_in(client: Client, db: None, page: str) -> None:
    answer = client.get(LISTS[page])
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")


def test_the_start_page_shows_nothing_to_staff_without_permission(staff: Staff) -> None:
    make_device(name="secret-device")
    record_event("device.offline", "secret event", actor="scheduler")
    shown = staff().get("/admin/").content.decode()
    assert "no permission to see anything yet" in shown
    assert "secret" not in shown
    assert "/admin/devices/device/" not in shown


def test_viewers_see_and_can_do_nothing(staff: Staff) -> None:
    viewer = staff("devices.view_device", "bundles.view_bundle", "deployments.view_deployment")
    device, bundle = make_device(name="edge-1", state="pending"), make_bundle()
    assert "edge-1" in viewer.get(LISTS["devices"]).content.decode()
    page = viewer.get(page_of("devices", device)).content.decode()
    assert "Approve" not in page
    assert "_save" not in page
    assert viewer.post(page_of("devices", device), {"name": "mine"}).status_code == 403
    for action in ("approve", "reject", "decommission", "deploy"):
        act(viewer, "devices", action, device, bundle=bundle.pk)
    for action in ("publish", "discard", "withdraw"):
        act(viewer, "bundles", action, bundle)
    device.refresh_from_db()
    bundle.refresh_from_db()
    assert (device.state, device.name, bundle.state) == ("pending", "edge-1", "ready")
    assert not Deployment.objects.exists()


def test_deploying_from_the_list_of_devices_needs_the_permission_to_add_deployments(staff: Staff) -> None:
    device, bundle = make_device(), make_bundle()
    act(staff("devices.view_device", "devices.change_device"), "devices", "deploy", device, bundle=bundle.pk)
    assert not Deployment.objects.exists()
    may = staff("devices.view_device", "deployments.add_deployment", name="carol")
    act(may, "devices", "deploy", device, bundle=bundle.pk)
    assert Deployment.objects.count() == 1


def test_cancelling_needs_the_permission_to_change_deployments(staff: Staff) -> None:
    deployment = make_deployment(make_bundle(), make_device())
    act(staff("deployments.view_deployment", "deployments.add_deployment"), "deployments", "cancel", deployment)
    deployment.refresh_from_db()
    assert deployment.state == "running"
    act(staff("deployments.change_deployment", name="carol"), "deployments", "cancel", deployment)
    deployment.refresh_from_db()
    assert deployment.state == "cancelled"


def test_progress_is_for_those_who_may_see_deployments(staff: Staff) -> None:
    deployment = make_deployment(make_bundle(), make_device())
    address = f"{LISTS['deployments']}{deployment.pk}/progress"
    assert staff("devices.view_device").get(address).status_code == 404
    assert staff("deployments.view_deployment", name="carol").get(address).status_code == 200


@pytest.mark.parametrize("page", ["events", "deployments", "bundles", "tokens", "API tokens", "devices"])
def test_what_happened_is_not_edited_or_deleted(boss: Client, alice: User, page: str) -> None:
    deployment = make_deployment(make_bundle(), make_device(name="edge-1"))
    rows: dict[str, Callable[[], Model]] = {
        "events": lambda: Event.objects.all()[0],
        "deployments": lambda: deployment,
        "bundles": lambda: deployment.bundle,
        "tokens": lambda: make_enrolment_token()[0],
        "API tokens": lambda: ApiToken.issue(alice, "viewer", "mine", actor="operator:alice")[0],
        "devices": lambda: Device.objects.get(),
    }
    obj = rows[page]()
    assert boss.post(f"{LISTS[page]}{obj.pk}/delete/", {"post": "yes"}).status_code == 403
    if page != "devices":
        assert boss.post(page_of(page, obj), {"name": "other", "message": "other", "note": "other"}).status_code == 403
    if page in {"events", "devices"}:
        assert boss.post(f"{LISTS[page]}add/", {"message": "made up"}).status_code == 403


def test_nobody_gives_themselves_rights(staff: Staff) -> None:
    client = staff("auth.view_user", "auth.change_user", "auth.add_user")
    bob = User.objects.get(username="bob")
    body = {"username": "bob", "is_active": "on", "is_staff": "on", "is_superuser": "on", "user_permissions": ["1"]}
    assert client.post(page_of("users", bob), body).status_code == 302
    bob.refresh_from_db()
    assert not bob.is_superuser
    assert bob.user_permissions.count() == 3


def test_only_superusers_touch_superusers_and_user_groups(staff: Staff, alice: User) -> None:
    client = staff("auth.view_user", "auth.change_user", "auth.change_group", "auth.add_group")
    word = {"usable_password": "true", "password1": "a new password 1", "password2": "a new password 1"}
    assert client.post(f"{LISTS['users']}{alice.pk}/password/", word).status_code == 403
    assert client.post(page_of("users", alice), {"username": "mallory"}).status_code == 403
    assert client.post(f"{LISTS['user groups']}add/", {"name": "all"}).status_code == 403
    alice.refresh_from_db()
    assert alice.check_password("correct horse battery")


@pytest.mark.parametrize("is_active", [True, False])
@pytest.mark.parametrize("through_group", [True, False])
def test_nobody_touches_an_account_that_may_more(staff: Staff, is_active: bool, through_group: bool) -> None:
    """Else the right to change users would be the right to become any of them."""
    client = staff("auth.view_user", "auth.change_user")
    carol = User.objects.create_user("carol", password="correct horse battery", is_active=is_active)
    permission = Permission.objects.get(codename="change_device")
    if through_group:
        group = UserGroup.objects.create(name="operators")
        group.permissions.add(permission)
        carol.groups.add(group)
    else:
        carol.user_permissions.add(permission)
    new = {"usable_password": "true", "password1": "a new password 1", "password2": "a new password 1"}
    assert client.post(f"{LISTS['users']}{carol.pk}/password/", new).status_code == 403
    assert client.post(page_of("users", carol), {"username": "carol", "is_active": "on"}).status_code == 403
    assert client.get(page_of("users", carol)).status_code == 200, "seeing is allowed"
    carol.refresh_from_db()
    assert (carol.is_active, carol.check_password("correct horse battery")) == (is_active, True)


def test_an_account_that_may_no_more_can_be_edited(staff: Staff) -> None:
    client = staff("auth.view_user", "auth.change_user", "devices.view_device")
    carol = User.objects.create_user("carol", password="correct horse battery")
    carol.user_permissions.add(Permission.objects.get(codename="view_device"))
    new = {"usable_password": "true", "password1": "a new password 1", "password2": "a new password 1"}
    assert client.post(f"{LISTS['users']}{carol.pk}/password/", new).status_code == 302
    carol.refresh_from_db()
    assert carol.check_password("a new password 1")


@pytest.mark.parametrize("page", ["tokens", "API tokens", "users", "devices", "bundles"])
@pytest.mark.parametrize(
    "query",
    [
        "secret_sha256__startswith=a",
        "password__startswith=p",
        "user__password__startswith=p",
        "public_key__startswith=a",
    ],
)
def test_a_list_filters_only_by_what_it_offers(boss: Client, page: str, query: str) -> None:
    answer = boss.get(f"{LISTS[page]}?{query}")
    assert answer.status_code == 400 or answer["Location"].endswith("?e=1")


def test_an_api_token_never_may_more_than_whoever_made_it(staff: Staff) -> None:
    read = ("devices.view_device", "bundles.view_bundle", "deployments.view_deployment")
    client = staff("tokens.add_apitoken", "tokens.view_apitoken", *read)
    bob, other = User.objects.get(username="bob"), make_user("carol")
    for body in ({"user": bob.pk, "role": "admin"}, {"user": bob.pk, "role": "operator"}, {"user": other.pk}):
        answer = client.post(f"{LISTS['API tokens']}add/", {"name": "mine", "role": "viewer", **body})
        assert answer.status_code == 200
        assert "kxa_" not in answer.content.decode()
    assert not ApiToken.objects.exists()
    made = client.post(f"{LISTS['API tokens']}add/", {"name": "mine", "user": bob.pk, "role": "viewer"})
    assert "kxa_" in made.content.decode()


def test_removing_a_group_needs_the_permission_to_delete_groups(staff: Staff, boss: Client) -> None:
    empty, used = make_group("empty"), make_device(group=make_group("used")).group
    act(staff("devices.change_group"), "groups", "remove", empty, used)
    assert {empty.name, used.name} <= {group.name for group in type(empty).objects.all()}
    answer = act(boss, "groups", "remove", empty, used)
    assert said(answer) == ["used: Devices or usable enrolment tokens belong to this group.", "Removed: 1."]
    assert not type(empty).objects.filter(name="empty").exists()
