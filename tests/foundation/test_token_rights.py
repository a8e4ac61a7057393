"""A token never has more rights than its owner has now."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from pytest_django.fixtures import Settings

from foundation.accounts.models import ApiToken
from foundation.errors import BadRequest
from foundation.events.models import Event

pytestmark = pytest.mark.django_db


def permissions(settings: Settings, role: str) -> list[Permission]:
    pairs = [right.split(".") for right in settings.ROLE_PERMISSIONS[role]]
    return [Permission.objects.get(content_type__app_label=app, codename=codename) for app, codename in pairs]


def owner(settings: Settings, role: str) -> User:
    user = User.objects.create_user("bob")
    user.user_permissions.set(permissions(settings, role))
    return user


def issue(user: User, role: str) -> str:
    return ApiToken.issue(user, role, "a test", actor="operator:bob")[1]


def call(secret: str, method: str = "GET", path: str = "groups") -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {secret}"}
    response = Client().generic(method, f"/api/v1/{path}", "{}", content_type="application/json", headers=headers)
    return response.status_code, response.json().get("error", {}).get("code", "")


@pytest.mark.parametrize("role", ["viewer", "operator", "publisher"])
def test_a_token_is_refused_if_its_owner_lacks_a_permission_of_its_role(settings: Settings, role: str) -> None:
    user = owner(settings, role)
    secret = issue(user, role)
    assert call(secret) == (200, "")
    for permission in permissions(settings, role):
        user.user_permissions.remove(permission)
        assert call(secret) == (403, "role_forbids"), permission
        user.user_permissions.add(permission)
    assert call(secret) == (200, "")


def test_permissions_of_a_user_group_count_while_the_owner_is_a_member(settings: Settings) -> None:
    user, group = User.objects.create_user("bob"), Group.objects.create(name="day shift")
    group.permissions.set(permissions(settings, "operator"))
    user.groups.add(group)
    secret = issue(user, "operator")
    assert call(secret, "POST") == (400, "invalid")
    user.groups.clear()
    assert call(secret, "POST") == (403, "role_forbids")


def test_the_admin_token_of_a_former_superuser_is_refused() -> None:
    user = User.objects.create_superuser("root")
    secret = issue(user, "admin")
    assert call(secret) == (200, "")
    User.objects.update(is_superuser=False)
    assert call(secret) == (403, "role_forbids")


def test_a_token_with_an_unknown_role_is_refused() -> None:
    secret = issue(User.objects.create_user("bob"), "approver")
    assert call(secret) == (403, "role_forbids")


def test_metrics_are_refused_to_an_owner_without_permissions(client: Client) -> None:
    secret = issue(User.objects.create_user("bob"), "viewer")
    assert client.get("/metrics", headers={"Authorization": f"Bearer {secret}"}).status_code == 401


def test_the_check_costs_two_queries_and_none_for_a_superuser(
    settings: Settings, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    settings.TOKEN_REQUESTS_PER_MINUTE = 0
    for secret, queries in ((issue(owner(settings, "viewer"), "viewer"), 4),
                            (issue(User.objects.create_superuser("root"), "viewer"), 2)):  # fmt: skip
        call(secret)  # stores the time of use
        with django_assert_num_queries(queries):
            assert call(secret) == (200, "")


@pytest.mark.parametrize("seconds", [0, -1, -86_400])
def test_a_token_cannot_be_issued_already_expired(seconds: int) -> None:
    with pytest.raises(BadRequest, match="in the past"):
        ApiToken.issue(
            User.objects.create_user("bob"), "viewer", "late", timezone.now() + timedelta(seconds=seconds), actor="a"
        )
    assert not ApiToken.objects.exists()
    assert not Event.objects.exists()


def test_the_admin_shows_the_refusal_of_a_past_expiry_at_its_field(client: Client) -> None:
    root = User.objects.create_superuser("root")
    client.force_login(root)
    body = {"name": "late", "user": root.pk, "role": "viewer", "expires_at_0": "2020-01-01", "expires_at_1": "00:00"}
    page = client.post("/admin/tokens/apitoken/add/", body)
    assert "Choose a time in the future." in page.content.decode()
    assert not ApiToken.objects.exists()
