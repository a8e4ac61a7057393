"""Fuzz tests from the OpenAPI document: every operation, every kind of caller, never a 5xx, one form of error.

Each run sends the same requests. `make check-all` sends more of them.
"""

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import schemathesis
from django.db import transaction
from django.test import Client
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.core.result import Ok

from foundation.api.schema_view import document
from tests.devices.signing import SigningDevice, sign
from tests.factories import make_bundle, make_deployment, make_device, make_enrolment_token, make_token, make_user

SCHEMA = schemathesis.openapi.from_dict(json.loads(document()))
LOADED: list[Any] = [result.ok() for result in SCHEMA.get_all_operations() if isinstance(result, Ok)]
OPERATIONS = {f"{operation.method.upper()} {operation.path}": operation for operation in LOADED}
HOST = "testserver"
Headers = Callable[[str, str, bytes], dict[str, str]]


@dataclass
class FuzzTargets:
    """Ids of existing objects, so that some generated requests reach one, and the headers of each caller."""

    ids: dict[str, str]
    callers: dict[str, Headers]


def with_token(secret: str) -> Headers:
    return lambda method, target, body: {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def existing(db: None, device: SigningDevice) -> FuzzTargets:
    bundle = make_bundle("vad@1.0.0", {"model": b"m" * 100})
    deployment = make_deployment(bundle, make_device(name="edge-9"))
    token, _ = make_enrolment_token()
    alice = make_user()
    tokens = {role: make_token(alice, role) for role in ("admin", "viewer")}
    callers = {role: with_token(secret) for role, secret in tokens.items()}
    callers["nobody"] = lambda method, target, body: {}
    callers["a device"] = lambda method, target, body: sign(
        device.key, method, HOST, target, body, sequence=7 if target.endswith("/heartbeat") else None
    )
    ids = {
        "device_id": str(device.id), "deployment_id": str(deployment.pk), "token_id": str(token.pk),
        "name": "vad", "version": "1.0.0", "sha256": bundle.files.get().sha256,
        "manifest_sha256": bundle.manifest_sha256, "number": "1",
    }  # fmt: skip
    return FuzzTargets(ids, callers)


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_generated_requests_are_answered_below_500(client: Client, existing: FuzzTargets, operation: str) -> None:
    fuzz(client, existing, operation, examples=4)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_many_generated_requests_are_answered_below_500(client: Client, existing: FuzzTargets, operation: str) -> None:
    fuzz(client, existing, operation, examples=40)


def fuzz(client: Client, existing: FuzzTargets, operation: str, examples: int) -> None:
    client.raise_request_exception = False

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=OPERATIONS[operation].as_strategy())
    def send_case(case: Case[Any]) -> None:
        for path in (str(case.formatted_path), existing_path(case.path, existing.ids)):
            for caller, headers in existing.callers.items():
                with transaction.atomic():
                    check(send(client, case, path, headers), f"{caller}: {case.method} {path}")
                    transaction.set_rollback(True)

    send_case()


def existing_path(path: str, ids: dict[str, str]) -> str:
    """Return an operation's path with the ids of existing objects."""
    for name, existing_id in ids.items():
        path = path.replace(f"{{{name}}}", existing_id)
    return path.replace("{upload_id}", ids["device_id"])


def send(client: Client, case: Case[Any], path: str, headers: Headers) -> Any:
    body = encoded(case.body)
    query = urlencode({name: encoded(value) for name, value in (case.query or {}).items()}, doseq=True)
    target = quote(path, safe="/%-._~+") + (f"?{query}" if query else "")
    given_headers = {
        name: b64encode(str(value).encode()).decode()
        for name, value in (case.headers or {}).items()
        if value is not None
    }
    response = client.generic(
        case.method, target, body, content_type=case.media_type or "application/json",
        headers=given_headers | headers(case.method, target, body),
    )  # fmt: skip
    if response.streaming:
        list(response)  # until the end, as a server does
    return response


def encoded(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    if type(body).__name__ == "NotSet" or body is None:
        return b""
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    try:
        return json.dumps(body).encode()
    except (TypeError, ValueError):
        return str(body).encode("utf-8", "surrogatepass")


def check(response: Any, what: str) -> None:
    # 507: the request announced more bytes than the disk has free.
    assert response.status_code < 500 or response.status_code == 507, f"{what}: {response.status_code}"
    if response.status_code >= 400:
        assert response["Content-Type"] == "application/json", what
        error = response.json()["error"]
        assert error["code"], what
        assert error["message"], what
