"""API tokens: who may do what at which endpoint, and when a token is none."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse
from django.utils import timezone

from foundation.accounts.models import ApiToken, Role
from kernex.urls import api
from tests.factories import make_user

WORDS: dict[str, Any] = {
    "device_id": UUID(int=1), "deployment_id": UUID(int=1), "token_id": UUID(int=1), "upload_id": UUID(int=1),
    "request_id": UUID(int=1),
    "name": "vad", "version": "1.0.0", "number": 1, "sha256": "a" * 64, "manifest_sha256": "a" * 64,
}  # fmt: skip
# Which right each endpoint asks for. `device` means a device's signature, `nobody` that anybody may.
RIGHTS: dict[str, dict[str, str]] = {
    "register": {"POST": "device"},
    "heartbeat": {"POST": "device"},
    "attributes": {"PUT": "device"},
    "deployment-result": {"POST": "device"},
    "manifest": {"GET": "device"},
    "blob": {"GET": "device"},
    "devices": {"GET": "read"},
    "device": {"GET": "read", "PATCH": "operate"},
    "device-approve": {"POST": "operate"},
    "device-reject": {"POST": "operate"},
    "device-decommission": {"POST": "operate"},
    "device-history": {"GET": "read"},
    "device-commands": {"GET": "read"},
    "device-deployments": {"GET": "read"},
    "device-logs": {"GET": "read", "POST": "operate"},
    "log-request": {"GET": "read"},
    "log-request-text": {"GET": "read"},
    "log-batches": {"POST": "device"},
    "events": {"GET": "read"},
    "groups": {"GET": "read", "POST": "operate"},
    "group": {"GET": "read", "PATCH": "operate", "DELETE": "operate"},
    "enrolment-tokens": {"GET": "read", "POST": "operate"},
    "enrolment-token-revoke": {"POST": "operate"},
    "bundles": {"GET": "read", "POST": "publish"},
    "bundle": {"GET": "read", "DELETE": "publish"},
    "bundle-publish": {"POST": "publish"},
    "bundle-withdraw": {"POST": "publish"},
    "uploads": {"POST": "publish"},
    "upload": {"GET": "read"},
    "upload-parts": {"POST": "publish"},
    "upload-part": {"PUT": "publish"},
    "upload-complete": {"POST": "publish"},
    "deployments": {"GET": "read", "POST": "operate"},
    "deployment": {"GET": "read"},
    "deployment-devices": {"GET": "read"},
    "deployment-cancel": {"POST": "operate"},
    "status": {"GET": "read"},
    "schema": {"GET": "nobody"},
    "docs": {"GET": "nobody"},
}
HOLDERS = {
    "read": {"viewer", "operator", "publisher", "admin"},
    "operate": {"operator", "admin"},
    "publish": {"publisher", "admin"},
}
CALLS = [(name, method, right) for name, methods in RIGHTS.items() for method, right in methods.items()]
STATUS = "/api/v1/status"

pytestmark = pytest.mark.django_db


def patterns(inside: list[URLPattern | URLResolver]) -> Iterator[URLPattern]:
    for pattern in inside:
        if isinstance(pattern, URLResolver):
            yield from patterns(pattern.url_patterns)
        else:
            yield pattern


def address(name: str) -> str:
    (pattern,) = [each for each in patterns(api) if each.name == name]
    return reverse(name, kwargs={word: WORDS[word] for word in pattern.pattern.converters})


def call(client: Client, name: str, method: str, token: str) -> tuple[int, str]:
    """Status and error code, if the answer is an error."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = client.generic(method, address(name), "{}", content_type="application/json", headers=headers)
    if answer.status_code < 400:
        return answer.status_code, ""
    return answer.status_code, json.loads(answer.content)["error"]["code"]


def test_the_table_names_every_endpoint_and_method() -> None:
    found = {}
    for pattern in patterns(api):
        view = getattr(pattern.callback, "view_class", None) or getattr(pattern.callback, "cls", None)
        methods = {method.upper() for method in ("get", "post", "put", "patch", "delete") if hasattr(view, method)}
        found[pattern.name] = methods or {"GET"}
    assert found == {name: set(methods) for name, methods in RIGHTS.items()}


@pytest.mark.parametrize("role", Role.values)
def test_each_role_may_what_the_table_says(role: str, client: Client) -> None:
    _, secret = ApiToken.issue(make_user(), role, "a test", actor="operator:alice")
    wrong = []
    for name, method, right in CALLS:
        if right not in HOLDERS:
            continue
        status, code = call(client, name, method, secret)
        is_let_in = (status, code) != (403, "role_forbids")
        if status == 401 or is_let_in != (role in HOLDERS[right]):
            wrong.append((name, method, status, code))
    assert wrong == []


def test_who_may_not_is_told_which_role_may(client: Client) -> None:
    _, secret = ApiToken.issue(make_user(), Role.VIEWER, "a test", actor="operator:alice")
    answer = client.post("/api/v1/groups", {}, "application/json", headers={"Authorization": f"Bearer {secret}"})
    assert answer.json()["error"]["message"] == "This API token's role is viewer; this request needs operator or admin."


def test_without_a_token_nothing_but_the_description_is_told(client: Client) -> None:
    for name, method, right in CALLS:
        status, code = call(client, name, method, "")
        expected = {"nobody": (200, ""), "device": (401, "not_signed")}.get(right, (401, "not_authenticated"))
        assert (name, status, code) == (name, *expected)


def test_no_api_token_speaks_for_a_device(client: Client) -> None:
    _, secret = ApiToken.issue(make_user(), "admin", "a test", actor="operator:alice")
    for name, method, right in CALLS:
        if right == "device":
            assert call(client, name, method, secret) == (401, "not_signed")


def status(client: Client, word: str) -> tuple[int, str]:
    answer = client.get(STATUS, headers={"Authorization": word})
    return answer.status_code, answer.json().get("error", {}).get("code", "")


@pytest.fixture
def issued() -> tuple[ApiToken, str]:
    return ApiToken.issue(make_user(), "viewer", "a test", actor="operator:alice")


def test_a_good_one_is_taken(client: Client, issued: tuple[ApiToken, str]) -> None:
    assert status(client, f"Bearer {issued[1]}") == (200, "")
    assert status(client, f"bearer   {issued[1]}") == (200, "")


def test_a_revoked_one_is_none_at_once_and_for_good(client: Client, issued: tuple[ApiToken, str]) -> None:
    row, secret = issued
    assert status(client, f"Bearer {secret}") == (200, "")
    assert row.revoke("operator:alice")
    assert not row.revoke("operator:alice")
    assert status(client, f"Bearer {secret}") == (401, "bad_token")


def test_an_expired_one_is_none(client: Client, issued: tuple[ApiToken, str]) -> None:
    for ends_in, expected in ((60, (200, "")), (-1, (401, "bad_token"))):
        ApiToken.objects.update(expires_at=timezone.now() + timedelta(seconds=ends_in))
        assert status(client, f"Bearer {issued[1]}") == expected


def test_one_of_a_user_who_may_not_log_in_is_none(client: Client, issued: tuple[ApiToken, str]) -> None:
    User.objects.update(is_active=False)
    assert status(client, f"Bearer {issued[1]}") == (401, "bad_token")


def test_anything_else_is_none(client: Client, issued: tuple[ApiToken, str]) -> None:
    secret = issued[1]
    for word in (secret + "x", secret[:-1], secret.upper(), "kxa_", issued[0].secret_sha256, str(issued[0].pk)):
        assert status(client, f"Bearer {word}") == (401, "bad_token")
    for word in (f"Basic {secret}", secret, f"Token {secret}"):
        assert status(client, word) == (401, "not_authenticated")


def test_a_token_in_the_address_is_never_taken(client: Client, issued: tuple[ApiToken, str]) -> None:
    """It would stand in the log of every proxy."""
    for name in ("token", "access_token", "api_key", "Authorization"):
        assert client.get(STATUS, {name: issued[1]}).status_code == 401
    client.cookies["token"] = issued[1]
    assert client.get(STATUS).status_code == 401


def test_a_session_of_the_admin_is_no_token(client: Client) -> None:
    """Else a page elsewhere could make a browser deploy."""
    client.force_login(User.objects.create_superuser("root", password="a long password"))
    assert client.get(STATUS).status_code == 401


def test_the_secret_is_nowhere_in_the_database(issued: tuple[ApiToken, str]) -> None:
    row, secret = issued
    assert len(secret) == 47  # 256 bits
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(tokens_apitoken)::text FROM tokens_apitoken")
        (kept,) = cursor.fetchone()
    assert row.secret_sha256 in kept
    assert secret not in kept
    assert secret.removeprefix("kxa_") not in kept


def test_its_use_is_noted_once_in_five_minutes(client: Client, issued: tuple[ApiToken, str]) -> None:
    def used_at() -> Any:
        return ApiToken.objects.get().last_used_at

    assert used_at() is None
    status(client, f"Bearer {issued[1]}")
    first = used_at()
    status(client, f"Bearer {issued[1]}")
    assert used_at() == first
    ApiToken.objects.update(last_used_at=first - timedelta(minutes=6))
    status(client, f"Bearer {issued[1]}")
    assert used_at() >= first
