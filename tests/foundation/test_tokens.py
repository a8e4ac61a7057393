"""API tokens: which role may call which endpoint, and which tokens are refused."""

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

URL_ARGUMENTS: dict[str, Any] = {
    "device_id": UUID(int=1), "deployment_id": UUID(int=1), "token_id": UUID(int=1), "upload_id": UUID(int=1),
    "request_id": UUID(int=1), "preview_id": UUID(int=1),
    "name": "vad", "version": "1.0.0", "number": 1, "sha256": "a" * 64, "manifest_sha256": "a" * 64,
}  # fmt: skip
# The right that each endpoint requires. `device` means a device's signature, `nobody` no authentication.
RIGHTS: dict[str, dict[str, str]] = {
    "register": {"POST": "device"},
    "heartbeat": {"POST": "device"},
    "attributes": {"PUT": "device"},
    "deployment-result": {"POST": "device"},
    "manifest": {"GET": "device"},
    "blob": {"GET": "device"},
    "devices": {"GET": "read"},
    "devices-export": {"GET": "read"},
    "device": {"GET": "read", "PATCH": "operate"},
    "device-approve": {"POST": "operate"},
    "device-reject": {"POST": "operate"},
    "device-decommission": {"POST": "operate"},
    "device-history": {"GET": "read"},
    "device-commands": {"GET": "read"},
    "device-deployments": {"GET": "read"},
    "bundle-running": {"GET": "read"},
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
    "deployment": {"GET": "read", "PATCH": "operate"},
    "deployment-devices": {"GET": "read"},
    "deployment-cancel": {"POST": "operate"},
    "deployment-pause": {"POST": "operate"},
    "deployment-resume": {"POST": "operate"},
    "deployment-promote": {"POST": "operate"},
    "deployment-retry": {"POST": "operate"},
    "deployment-repeat": {"POST": "operate"},
    "deployment-preview": {"POST": "operate"},
    "preview": {"GET": "read"},
    "deployment-roll-back": {"POST": "operate"},
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


def url_of(name: str) -> str:
    (pattern,) = [candidate for candidate in patterns(api) if candidate.name == name]
    return reverse(name, kwargs={argument: URL_ARGUMENTS[argument] for argument in pattern.pattern.converters})


def call(client: Client, name: str, method: str, token: str) -> tuple[int, str]:
    """Send a request. Return its status and, if it failed, its error code."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    response = client.generic(method, url_of(name), "{}", content_type="application/json", headers=headers)
    if response.status_code < 400:
        return response.status_code, ""
    return response.status_code, json.loads(response.content)["error"]["code"]


def test_the_table_names_every_endpoint_and_method() -> None:
    methods_by_name = {}
    for pattern in patterns(api):
        view = getattr(pattern.callback, "view_class", None) or getattr(pattern.callback, "cls", None)
        methods = {method.upper() for method in ("get", "post", "put", "patch", "delete") if hasattr(view, method)}
        methods_by_name[pattern.name] = methods or {"GET"}
    assert methods_by_name == {name: set(methods) for name, methods in RIGHTS.items()}


@pytest.mark.parametrize("role", Role.values)
def test_each_role_may_call_exactly_what_the_table_lists(role: str, client: Client) -> None:
    _, secret = ApiToken.issue(make_user(), role, "a test", actor="operator:alice")
    wrong = []
    for name, method, right in CALLS:
        if right not in HOLDERS:
            continue
        status, code = call(client, name, method, secret)
        is_allowed = (status, code) != (403, "role_forbids")
        if status == 401 or is_allowed != (role in HOLDERS[right]):
            wrong.append((name, method, status, code))
    assert wrong == []


def test_the_refusal_names_the_required_roles(client: Client) -> None:
    _, secret = ApiToken.issue(make_user(), Role.VIEWER, "a test", actor="operator:alice")
    response = client.post("/api/v1/groups", {}, "application/json", headers={"Authorization": f"Bearer {secret}"})
    assert (
        response.json()["error"]["message"] == "This API token's role is viewer; this request needs operator or admin."
    )


def test_without_a_token_only_the_api_description_is_public(client: Client) -> None:
    for name, method, right in CALLS:
        status, code = call(client, name, method, "")
        expected = {"nobody": (200, ""), "device": (401, "not_signed")}.get(right, (401, "not_authenticated"))
        assert (name, status, code) == (name, *expected)


def test_an_api_token_cannot_act_as_a_device(client: Client) -> None:
    _, secret = ApiToken.issue(make_user(), "admin", "a test", actor="operator:alice")
    for name, method, right in CALLS:
        if right == "device":
            assert call(client, name, method, secret) == (401, "not_signed")


def status(client: Client, authorization: str) -> tuple[int, str]:
    response = client.get(STATUS, headers={"Authorization": authorization})
    return response.status_code, response.json().get("error", {}).get("code", "")


@pytest.fixture
def issued_token() -> tuple[ApiToken, str]:
    return ApiToken.issue(make_user(), "viewer", "a test", actor="operator:alice")


def test_a_valid_token_is_accepted(client: Client, issued_token: tuple[ApiToken, str]) -> None:
    assert status(client, f"Bearer {issued_token[1]}") == (200, "")
    assert status(client, f"bearer   {issued_token[1]}") == (200, "")


def test_a_revoked_token_is_refused_at_once_and_permanently(client: Client, issued_token: tuple[ApiToken, str]) -> None:
    token, secret = issued_token
    assert status(client, f"Bearer {secret}") == (200, "")
    assert token.revoke("operator:alice")
    assert not token.revoke("operator:alice")
    assert status(client, f"Bearer {secret}") == (401, "bad_token")


def test_an_expired_token_is_refused(client: Client, issued_token: tuple[ApiToken, str]) -> None:
    for ends_in, expected in ((60, (200, "")), (-1, (401, "bad_token"))):
        ApiToken.objects.update(expires_at=timezone.now() + timedelta(seconds=ends_in))
        assert status(client, f"Bearer {issued_token[1]}") == expected


def test_a_token_of_an_inactive_user_is_refused(client: Client, issued_token: tuple[ApiToken, str]) -> None:
    User.objects.update(is_active=False)
    assert status(client, f"Bearer {issued_token[1]}") == (401, "bad_token")


def test_anything_that_is_not_a_token_is_refused(client: Client, issued_token: tuple[ApiToken, str]) -> None:
    token, secret = issued_token
    for credential in (secret + "x", secret[:-1], secret.upper(), "kxa_", token.secret_sha256, str(token.pk)):
        assert status(client, f"Bearer {credential}") == (401, "bad_token")
    for authorization in (f"Basic {secret}", secret, f"Token {secret}"):
        assert status(client, authorization) == (401, "not_authenticated")


def test_a_token_in_the_url_or_a_cookie_is_refused(client: Client, issued_token: tuple[ApiToken, str]) -> None:
    """Proxies write URLs into their logs, and browsers send cookies from any page."""
    for name in ("token", "access_token", "api_key", "Authorization"):
        assert client.get(STATUS, {name: issued_token[1]}).status_code == 401
    client.cookies["token"] = issued_token[1]
    assert client.get(STATUS).status_code == 401


def test_an_admin_session_does_not_authenticate_the_api(client: Client) -> None:
    """Otherwise another site's page could make a signed-in operator's browser start a deployment."""
    client.force_login(User.objects.create_superuser("root", password="a long password"))
    assert client.get(STATUS).status_code == 401


def test_the_secret_is_not_stored_in_the_database(issued_token: tuple[ApiToken, str]) -> None:
    token, secret = issued_token
    assert len(secret) == 47  # 256 bits
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(tokens_apitoken)::text FROM tokens_apitoken")
        (stored,) = cursor.fetchone()
    assert token.secret_sha256 in stored
    assert secret not in stored
    assert secret.removeprefix("kxa_") not in stored


def test_the_time_of_use_is_stored_once_in_five_minutes(client: Client, issued_token: tuple[ApiToken, str]) -> None:
    def used_at() -> Any:
        return ApiToken.objects.get().last_used_at

    assert used_at() is None
    status(client, f"Bearer {issued_token[1]}")
    first = used_at()
    status(client, f"Bearer {issued_token[1]}")
    assert used_at() == first
    ApiToken.objects.update(last_used_at=first - timedelta(minutes=6))
    status(client, f"Bearer {issued_token[1]}")
    assert used_at() >= first
