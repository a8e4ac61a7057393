"""The OpenAPI document: complete and generated without warnings."""

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
# These routes describe the API and are not part of it.
ABOUT = {"/api/v1/schema", "/api/v1/docs"}


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    paths = json.loads(document())["paths"]
    return [
        (path, method, operation)
        for path, fields in paths.items()
        for method, operation in fields.items()
        if method in METHODS
    ]


def routes(resolver: URLResolver, prefix: str = "/") -> list[str]:
    paths = []
    for route in resolver.url_patterns:
        path = prefix + str(route.pattern)
        paths += [path] if isinstance(route, URLPattern) else routes(route, path)
    return paths


def test_it_is_generated_without_warnings() -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=io.StringIO())


def test_it_contains_every_route_of_the_api() -> None:
    served = {
        re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path) for path in routes(get_resolver()) if path.startswith("/api/v1/")
    }
    assert len(served) > 25
    assert served - {path for path, _, _ in operations()} == ABOUT


def test_every_operation_documents_its_purpose_errors_and_security() -> None:
    for path, method, operation in operations():
        assert operation.get("description"), f"{method} {path} has no sentence"
        assert "default" in operation["responses"], f"{method} {path} does not say how it refuses"
        assert "security" in operation, f"{method} {path} does not say who may"


def test_it_declares_each_authentication_scheme() -> None:
    schemes = json.loads(document())["components"]["securitySchemes"]
    assert set(schemes) == {"apiToken", "deviceSignature", "keyPossession"}


@pytest.mark.django_db
def test_anybody_may_read_it(client: Client) -> None:
    response = client.get("/api/v1/schema")
    assert response.status_code == 200
    assert json.loads(response.content)["openapi"].startswith("3.")


@pytest.mark.django_db
@pytest.mark.parametrize("path", sorted({path for path, _, _ in operations()}))
@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PROPFIND", "get!"])
def test_other_methods_are_refused_with_a_json_error(client: Client, path: str, method: str) -> None:
    url = re.sub(r"\{\w*(?:id)\}", "00000000-0000-0000-0000-000000000000", path)
    url = re.sub(r"\{\w*sha256\}", "0" * 64, url).replace("{number}", "1")
    url = re.sub(r"\{\w+\}", "word", url)
    response = client.generic(method, url)
    assert response.status_code in {401, 405}, response.content
    assert set(response.json()) == {"error"}
