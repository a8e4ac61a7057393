"""The OpenAPI document: complete, without a warning, and shown without an outside host."""

import io
import json
import re
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from foundation.api.schema_view import document

METHODS = {"get", "post", "put", "patch", "delete"}
# They describe the API and are no part of it.
ABOUT = {"/api/v1/schema", "/api/v1/docs"}


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    paths = json.loads(document())["paths"]
    return [(path, method, told) for path, one in paths.items() for method, told in one.items() if method in METHODS]


def addresses(resolver: URLResolver, prefix: str = "/") -> list[str]:
    found = []
    for one in resolver.url_patterns:
        path = prefix + str(one.pattern)
        found += [path] if isinstance(one, URLPattern) else addresses(one, path)
    return found


def test_it_is_made_without_a_warning() -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=io.StringIO())


def test_every_address_of_the_api_stands_in_it() -> None:
    served = {
        re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path) for path in addresses(get_resolver()) if path.startswith("/api/v1/")
    }
    assert len(served) > 25
    assert served - {path for path, _, _ in operations()} == ABOUT


def test_every_operation_says_what_it_does_and_how_it_refuses() -> None:
    for path, method, told in operations():
        assert told.get("description"), f"{method} {path} has no sentence"
        assert "default" in told["responses"], f"{method} {path} does not say how it refuses"
        assert "security" in told, f"{method} {path} does not say who may"


def test_it_declares_each_way_to_prove_oneself() -> None:
    schemes = json.loads(document())["components"]["securitySchemes"]
    assert set(schemes) == {"apiToken", "deviceSignature", "keyPossession"}


@pytest.mark.django_db
def test_everybody_may_read_it(client: Client) -> None:
    answer = client.get("/api/v1/schema")
    assert answer.status_code == 200
    assert json.loads(answer.content)["openapi"].startswith("3.")


@pytest.mark.django_db
@pytest.mark.parametrize("path", sorted({path for path, _, _ in operations()}))
@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PROPFIND", "get!"])
def test_other_methods_are_refused_in_the_one_shape(client: Client, path: str, method: str) -> None:
    address = re.sub(r"\{\w*(?:id)\}", "00000000-0000-0000-0000-000000000000", path)
    address = re.sub(r"\{\w*sha256\}", "0" * 64, address).replace("{number}", "1")
    address = re.sub(r"\{\w+\}", "word", address)
    answer = client.generic(method, address)
    assert answer.status_code in {401, 405}, answer.content
    assert set(answer.json()) == {"error"}
