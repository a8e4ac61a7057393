"""Permissions in the admin: each action needs its permission, and history cannot be edited."""

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
from tests.admin.actions import LISTS, object_url, run_action, shown_messages
from tests.factories import make_bundle, make_deployment, make_device, make_enrolment_token, make_group, make_user

pytestmark = pytest.mark.django_db
Staff = Callable[..., Client]


@pytest.mark.parametrize("page", LISTS)
def test_staff_without_permission_get_403(staff: Staff, page: str) -> None:
    assert staff().get(LISTS[page]).status_code == 403


@pytest.mark.parametrize("page", LISTS)
def test_anonymous_requests_are_redirected_to_the_login(client: Client, db: None, page: str) -> None:
    response = client.get(LISTS[page])
    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/")


def test_the_start_page_shows_nothing_to_staff_without_permission(staff: Staff) -> None:
    make_device(name="secret-device")
    record_event("device.offline", "secret event", actor="scheduler")
    page_text = staff().get("/admin/").content.decode()
    assert "Your account has no permissions yet" in page_text
    assert "secret" not in page_text
    assert "/admin/devices/device/" not in page_text


def test_viewers_can_see_but_not_change(staff: Staff) -> None:
    viewer = staff("devices.view_device", "bundles.view_bundle", "deployments.view_deployment")
    device, bundle = make_device(name="edge-1", state="pending"), make_bundle()
    assert "edge-1" in viewer.get(LISTS["devices"]).content.decode()
    page = viewer.get(object_url("devices", device)).content.decode()
    assert "Approve" not in page
    assert "_save" not in page
    assert viewer.post(object_url("devices", device), {"name": "mine"}).status_code == 403
    for action in ("approve", "reject", "decommission", "deploy"):
        run_action(viewer, "devices", action, device, bundle=bundle.pk)
    for action in ("publish", "discard", "withdraw"):
        run_action(viewer, "bundles", action, bundle)
    device.refresh_from_db()
    bundle.refresh_from_db()
    assert (device.state, device.name, bundle.state) == ("pending", "edge-1", "ready")
    assert not Deployment.objects.exists()


def test_deploying_from_the_list_of_devices_needs_the_permission_to_add_deployments(staff: Staff) -> None:
    device, bundle = make_device(), make_bundle()
    run_action(staff("devices.view_device", "devices.change_device"), "devices", "deploy", device, bundle=bundle.pk)
    assert not Deployment.objects.exists()
    permitted = staff("devices.view_device", "deployments.add_deployment", name="carol")
    run_action(permitted, "devices", "deploy", device, bundle=bundle.pk)
    assert Deployment.objects.count() == 1


def test_cancelling_needs_the_permission_to_change_deployments(staff: Staff) -> None:
    deployment = make_deployment(make_bundle(), make_device())
    run_action(staff("deployments.view_deployment", "deployments.add_deployment"), "deployments", "cancel", deployment)
    deployment.refresh_from_db()
    assert deployment.state == "running"
    run_action(staff("deployments.change_deployment", name="carol"), "deployments", "cancel", deployment)
    deployment.refresh_from_db()
    assert deployment.state == "cancelled"


def test_progress_needs_the_permission_to_view_deployments(staff: Staff) -> None:
    deployment = make_deployment(make_bundle(), make_device())
    url = f"{LISTS['deployments']}{deployment.pk}/progress"
    assert staff("devices.view_device").get(url).status_code == 404
    assert staff("deployments.view_deployment", name="carol").get(url).status_code == 200


@pytest.mark.parametrize("page", ["events", "deployments", "bundles", "tokens", "API tokens", "devices"])
def test_history_cannot_be_edited_or_deleted(boss: Client, alice: User, page: str) -> None:
    deployment = make_deployment(make_bundle(), make_device(name="edge-1"))
    factories: dict[str, Callable[[], Model]] = {
        "events": lambda: Event.objects.all()[0],
        "deployments": lambda: deployment,
        "bundles": lambda: deployment.bundle,
        "tokens": lambda: make_enrolment_token()[0],
        "API tokens": lambda: ApiToken.issue(alice, "viewer", "mine", actor="operator:alice")[0],
        "devices": lambda: Device.objects.get(),
    }
    obj = factories[page]()
    assert boss.post(f"{LISTS[page]}{obj.pk}/delete/", {"post": "yes"}).status_code == 403
    if page != "devices":
        assert (
            boss.post(object_url(page, obj), {"name": "other", "message": "other", "note": "other"}).status_code == 403
        )
    if page in {"events", "devices"}:
        assert boss.post(f"{LISTS[page]}add/", {"message": "made up"}).status_code == 403


def test_users_cannot_grant_themselves_permissions(staff: Staff) -> None:
    client = staff("auth.view_user", "auth.change_user", "auth.add_user")
    bob = User.objects.get(username="bob")
    body = {"username": "bob", "is_active": "on", "is_staff": "on", "is_superuser": "on", "user_permissions": ["1"]}
    assert client.post(object_url("users", bob), body).status_code == 302
    bob.refresh_from_db()
    assert not bob.is_superuser
    assert bob.user_permissions.count() == 3


def test_only_superusers_change_superusers_and_user_groups(staff: Staff, alice: User) -> None:
    client = staff("auth.view_user", "auth.change_user", "auth.change_group", "auth.add_group")
    password_form = {"usable_password": "true", "password1": "a new password 1", "password2": "a new password 1"}
    assert client.post(f"{LISTS['users']}{alice.pk}/password/", password_form).status_code == 403
    assert client.post(object_url("users", alice), {"username": "mallory"}).status_code == 403
    assert client.post(f"{LISTS['user groups']}add/", {"name": "all"}).status_code == 403
    alice.refresh_from_db()
    assert alice.check_password("correct horse battery")


@pytest.mark.parametrize("is_active", [True, False])
@pytest.mark.parametrize("through_group", [True, False])
def test_an_account_with_more_permissions_cannot_be_changed(staff: Staff, is_active: bool, through_group: bool) -> None:
    """Otherwise the permission to change users would allow taking over any account."""
    client = staff("auth.view_user", "auth.change_user")
    carol = User.objects.create_user("carol", password="correct horse battery", is_active=is_active)
    permission = Permission.objects.get(codename="change_device")
    if through_group:
        group = UserGroup.objects.create(name="operators")
        group.permissions.add(permission)
        carol.groups.add(group)
    else:
        carol.user_permissions.add(permission)
    password_form = {"usable_password": "true", "password1": "a new password 1", "password2": "a new password 1"}
    assert client.post(f"{LISTS['users']}{carol.pk}/password/", password_form).status_code == 403
    assert client.post(object_url("users", carol), {"username": "carol", "is_active": "on"}).status_code == 403
    assert client.get(object_url("users", carol)).status_code == 200, "seeing is allowed"
    carol.refresh_from_db()
    assert (carol.is_active, carol.check_password("correct horse battery")) == (is_active, True)


def test_an_account_without_more_permissions_can_be_changed(staff: Staff) -> None:
    client = staff("auth.view_user", "auth.change_user", "devices.view_device")
    carol = User.objects.create_user("carol", password="correct horse battery")
    carol.user_permissions.add(Permission.objects.get(codename="view_device"))
    password_form = {"usable_password": "true", "password1": "a new password 1", "password2": "a new password 1"}
    assert client.post(f"{LISTS['users']}{carol.pk}/password/", password_form).status_code == 302
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
def test_a_list_accepts_only_its_own_filters(boss: Client, page: str, query: str) -> None:
    response = boss.get(f"{LISTS[page]}?{query}")
    assert response.status_code == 400 or response["Location"].endswith("?e=1")


def test_an_api_token_cannot_exceed_its_creators_permissions(staff: Staff) -> None:
    view_permissions = ("devices.view_device", "bundles.view_bundle", "deployments.view_deployment")
    client = staff("tokens.add_apitoken", "tokens.view_apitoken", *view_permissions)
    bob, other = User.objects.get(username="bob"), make_user("carol")
    for body in ({"user": bob.pk, "role": "admin"}, {"user": bob.pk, "role": "operator"}, {"user": other.pk}):
        response = client.post(f"{LISTS['API tokens']}add/", {"name": "mine", "role": "viewer", **body})
        assert response.status_code == 200
        assert "kxa_" not in response.content.decode()
    assert not ApiToken.objects.exists()
    created = client.post(f"{LISTS['API tokens']}add/", {"name": "mine", "user": bob.pk, "role": "viewer"})
    assert "kxa_" in created.content.decode()


def test_removing_a_group_needs_the_permission_to_delete_groups(staff: Staff, boss: Client) -> None:
    empty, used = make_group("empty"), make_device(group=make_group("used")).group
    run_action(staff("devices.change_group"), "groups", "remove", empty, used)
    assert {empty.name, used.name} <= {group.name for group in type(empty).objects.all()}
    response = run_action(boss, "groups", "remove", empty, used)
    assert shown_messages(response) == ["used: Devices or usable enrolment tokens belong to this group.", "Removed: 1."]
    assert not type(empty).objects.filter(name="empty").exists()
