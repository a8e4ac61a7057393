"""`manage.py create_operator`: creates a user who may log in and, on request, an API token. It is idempotent."""

import io
import json
import sys
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from foundation.accounts.models import ApiToken, Role

pytestmark = pytest.mark.django_db


def create(*arguments: str) -> dict[str, Any]:
    """Run the command and return its JSON output."""
    out = io.StringIO()
    call_command("create_operator", *arguments, "--json", stdout=out)
    output: dict[str, Any] = json.loads(out.getvalue())
    return output


def set_stdin(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_a_password_is_generated_and_shown_once(client: Client) -> None:
    output = create("alice")
    assert len(output["password"]) == 16
    page = client.post("/admin/login/?next=/admin/", {"username": "alice", "password": output["password"]})
    assert (page.status_code, page["Location"]) == (302, "/admin/")
    assert User.objects.get().has_perms(["devices.change_device", "deployments.add_deployment"])
    assert output["password"] not in User.objects.get().password


def test_a_password_may_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    set_stdin(monkeypatch, "correct horse battery staple\n")
    assert create("alice", "--password-stdin") == {"name": "alice"}
    assert User.objects.get().check_password("correct horse battery staple")


@pytest.mark.parametrize("password", ["", "short", "password1234", "111111111111"])
def test_a_weak_password_is_refused(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_stdin(monkeypatch, f"{password}\n")
    with pytest.raises(CommandError) as refused:
        create("alice", "--password-stdin")
    assert "password" in str(refused.value)
    assert not User.objects.exists()


@pytest.mark.parametrize("name", ["", "a b", "a" * 200, "a\nb"])
def test_a_name_that_cannot_log_in_is_refused(name: str) -> None:
    with pytest.raises(CommandError):
        create(name)
    assert not User.objects.exists()


def test_an_existing_user_keeps_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    before = create("alice")
    set_stdin(monkeypatch, "another long password\n")
    assert create("alice", "--password-stdin") == {"name": "alice"}
    assert create("alice") == {"name": "alice"}
    assert User.objects.get().check_password(before["password"])


@pytest.mark.parametrize("role", Role.values)
def test_a_token_is_issued_on_request(role: str, client: Client) -> None:
    create("alice")
    assert not ApiToken.objects.exists()
    output = create("alice", "--token", role)
    assert ApiToken.objects.get().role == role
    response = client.get("/api/v1/status", headers={"Authorization": f"Bearer {output['token']}"})
    assert response.status_code == 200


def test_the_default_output_is_one_line_per_value() -> None:
    out = io.StringIO()
    call_command("create_operator", "alice", "--token", "viewer", stdout=out)
    assert [line.partition(": ")[0] for line in out.getvalue().splitlines()] == ["name", "password", "token"]
