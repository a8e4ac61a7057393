"""Each change of users, permissions and tokens records an event, without passwords and secrets."""

import json
import sys
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.test import Client
from pytest_django.fixtures import Settings

from foundation.accounts.models import ApiToken
from foundation.events.models import Event

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
USERS, GROUPS, TOKENS = "/admin/auth/user/", "/admin/auth/group/", "/admin/tokens/apitoken/"


@pytest.fixture(autouse=True)
def fast_password_hasher(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_superuser("alice", password=PASSWORD)


@pytest.fixture
def superuser_client(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


def single_event(kind: str) -> Event:
    return Event.objects.get(kind=kind)


def sign_in(client: Client, name: str, password: str) -> Any:
    return client.post("/admin/login/?next=/admin/", {"username": name, "password": password})


def test_a_sign_in_is_recorded(client: Client, alice: User) -> None:
    assert sign_in(client, "alice", PASSWORD).status_code == 302
    event = single_event("user.signed_in")
    assert (event.actor, event.message, event.data) == (
        "operator:alice", "alice signed in.", {"client_address": "127.0.0.1"}
    )  # fmt: skip


@pytest.mark.parametrize("name", ["alice", "nobody", "x" * 3000, "a\0b", "a\nb"])
def test_a_failed_sign_in_is_recorded(client: Client, alice: User, name: str) -> None:
    sign_in(client, name, "a wrong password")
    event = single_event("user.sign_in_failed")
    assert event.actor == "anonymous"
    assert event.data["username"] == name.replace("\0", "")[:150]
    assert "a wrong password" not in json.dumps([event.message, event.data])


def test_a_lockout_is_recorded(client: Client, alice: User) -> None:
    for _ in range(10):
        sign_in(client, "alice", "a wrong password")
    assert sign_in(client, "alice", PASSWORD).status_code == 429
    assert Event.objects.filter(kind="user.locked_out").exists()
    assert not Event.objects.filter(kind="user.signed_in").exists()


def test_failed_sign_ins_cannot_fill_the_event_table(client: Client, db: None) -> None:
    for number in range(30):
        sign_in(client, f"nobody-{number}", "a wrong password")
    assert 20 <= Event.objects.count() <= 22, "one more for each three seconds that the test takes"


def test_opening_the_form_records_no_event(client: Client, db: None) -> None:
    client.get("/admin/login/")
    assert not Event.objects.exists()


def test_adding_a_user_is_recorded(superuser_client: Client) -> None:
    body = {"username": "bob", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD}
    assert superuser_client.post(f"{USERS}add/", body).status_code == 302
    event = single_event("user.added")
    assert (event.actor, event.message) == ("operator:alice", "User bob was added.")
    assert event.data["object_id"] == User.objects.get(username="bob").pk
    assert PASSWORD not in json.dumps(event.data)


def test_granting_and_revoking_permissions_is_recorded(superuser_client: Client) -> None:
    bob, group = User.objects.create_user("bob"), Group.objects.create(name="night shift")
    permission = Permission.objects.get(codename="view_device")
    form = {
        "username": "bob",
        "is_active": "on",
        "is_staff": "on",
        "user_permissions": [permission.pk],
        "groups": [group.pk],
    }
    assert superuser_client.post(f"{USERS}{bob.pk}/change/", form).status_code == 302
    event = single_event("user.changed")
    assert event.message == "User bob was changed (groups, is staff, user permissions)."
    assert event.data["changes"] == {
        "is_staff": True,
        "groups": {"added": ["night shift"], "removed": []},
        "user_permissions": {"added": [str(permission)], "removed": []},
    }
    Event.objects.all().delete()
    superuser_client.post(f"{USERS}{bob.pk}/change/", {"username": "bob"})
    assert single_event("user.changed").data["changes"] == {
        "is_active": False,
        "is_staff": False,
        "groups": {"added": [], "removed": ["night shift"]},
        "user_permissions": {"added": [], "removed": [str(permission)]},
    }


def test_an_unchanged_form_records_no_event(superuser_client: Client) -> None:
    bob = User.objects.create_user("bob")
    superuser_client.post(f"{USERS}{bob.pk}/change/", {"username": "bob", "is_active": "on"})
    assert not Event.objects.filter(kind="user.changed").exists()


def test_setting_a_password_is_recorded(superuser_client: Client) -> None:
    bob = User.objects.create_user("bob")
    body = {"usable_password": "true", "password1": "another horse battery", "password2": "another horse battery"}
    assert superuser_client.post(f"{USERS}{bob.pk}/password/", body).status_code == 302
    event = single_event("user.changed")
    assert (event.message, event.data["changes"]) == ("User bob was changed (password).", {"password": "set"})


def test_changing_ones_own_password_is_recorded(superuser_client: Client) -> None:
    body = {
        "old_password": PASSWORD,
        "new_password1": "another horse battery",
        "new_password2": "another horse battery",
    }
    assert superuser_client.post("/admin/password_change/", body).status_code == 302
    event = single_event("user.changed")
    assert (event.actor, event.message) == ("operator:alice", "User alice was changed (password).")


def test_adding_changing_and_deleting_a_user_group_is_recorded(superuser_client: Client) -> None:
    permission = Permission.objects.get(codename="view_device")
    superuser_client.post(f"{GROUPS}add/", {"name": "day shift"})
    group = Group.objects.get()
    superuser_client.post(f"{GROUPS}{group.pk}/change/", {"name": "day shift", "permissions": [permission.pk]})
    superuser_client.post(f"{GROUPS}{group.pk}/delete/", {"post": "yes"})
    assert single_event("user_group.added").message == "Group day shift was added."
    changes = single_event("user_group.changed").data["changes"]
    assert changes == {"permissions": {"added": [str(permission)], "removed": []}}
    assert single_event("user_group.deleted").message == "Group day shift was deleted."


def test_issuing_and_revoking_an_api_token_is_recorded(superuser_client: Client, alice: User) -> None:
    page = superuser_client.post(
        f"{TOKENS}add/", {"name": "robot", "user": alice.pk, "role": "viewer"}
    ).content.decode()
    token = ApiToken.objects.get()
    superuser_client.post(TOKENS, {"action": "revoke", "_selected_action": [str(token.pk)], "confirmed": "yes"})
    issued, revoked = single_event("api_token.issued"), single_event("api_token.revoked")
    assert (issued.actor, issued.message) == ("operator:alice", "API token robot (viewer) was issued for alice.")
    assert (revoked.actor, revoked.message) == ("operator:alice", "API token robot (viewer) of alice was revoked.")
    assert issued.data == revoked.data == {"token": str(token.pk)}
    assert "kxa_" in page
    assert "kxa_" not in json.dumps([issued.message, issued.data])


def test_create_operator_records_its_events(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO(PASSWORD))
    call_command("create_operator", "carol", "--password-stdin", "--token", "admin", stdout=StringIO())
    assert [(event.kind, event.actor) for event in Event.objects.order_by("id")] == [
        ("user.added", "manage.py"), ("api_token.issued", "manage.py")
    ]  # fmt: skip
    assert PASSWORD not in json.dumps(list(Event.objects.values_list("message", "data")))
