"""GET /api/v1/bundles and GET /api/v1/bundles/{name}/{version}"""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from bundles.models import Bundle
from tests.bundles.publisher import Publisher, manifest_of


def names(response: object) -> list[str]:
    return [f"{row['name']}@{row['version']}" for row in response.json()["results"]]  # type: ignore[attr-defined]


def test_viewers_see_bundles_with_the_newest_first(publisher: Publisher, viewer: Publisher) -> None:
    for version in ("1", "2", "3"):
        publisher.draft(manifest_of({"a": b"1"}, version=version))
    response = viewer.get("bundles")
    assert names(response) == ["vad@3", "vad@2", "vad@1"]
    assert set(response.json()) == {"next", "previous", "results"}
    assert "missing" not in response.json()["results"][0]


def test_the_list_is_paginated(publisher: Publisher) -> None:
    for version in ("1", "2", "3"):
        publisher.draft(manifest_of({"a": b"1"}, version=version))
    page = publisher.get("bundles", page_size="2").json()
    assert [row["version"] for row in page["results"]] == ["3", "2"]
    following = publisher.client.get(page["next"], headers=publisher.headers).json()
    assert [row["version"] for row in following["results"]] == ["1"]


def test_the_list_is_filtered_by_name_and_state(publisher: Publisher) -> None:
    publisher.draft(manifest_of({"a": b"1"}))
    publisher.push({"a": b"1"}, name="other")
    assert names(publisher.get("bundles", name="vad")) == ["vad@1.0.0"]
    assert names(publisher.get("bundles", state="ready")) == ["other@1.0.0"]
    assert names(publisher.get("bundles", name="vad", state="ready")) == []


@pytest.mark.parametrize(
    ("query", "code"),
    [("state=gone", "invalid"), ("name=A", "invalid"), ("name=a%00", "bad_query"), ("name=%ED%A0%80", "invalid")],
)
def test_filters_that_cannot_match_are_refused(publisher: Publisher, query: str, code: str) -> None:
    response = publisher.client.get(f"/api/v1/bundles?{query}", headers=publisher.headers)
    assert (response.status_code, response.json()["error"]["code"]) == (400, code)


@pytest.mark.parametrize("cursor", ["x", "cD1hYmM=", "cD0lMDA=", "bz0x", "cD0yMDI0LTAxLTAx"])
def test_an_invalid_cursor_is_a_4xx(publisher: Publisher, cursor: str) -> None:
    response = publisher.get("bundles", cursor=cursor)
    assert response.status_code in {200, 400, 404}
    assert response["Content-Type"] == "application/json"


def test_reading_needs_a_token(stranger: Publisher) -> None:
    assert stranger.get("bundles").status_code == 401
    assert stranger.get("bundles/vad/1.0.0").status_code == 401


def test_the_number_of_queries_does_not_depend_on_the_number_of_bundles(publisher: Publisher) -> None:
    publisher.draft(manifest_of({"a": b"1"}))
    publisher.get("bundles")
    with CaptureQueriesContext(connection) as few:
        publisher.get("bundles")
    for version in range(10):
        publisher.draft(manifest_of({"a": b"1"}, version=str(version)))
    with CaptureQueriesContext(connection) as many:
        assert len(publisher.get("bundles").json()["results"]) == 11
    assert len(many) == len(few) == 3  # the token, its rate limit, the page


def test_a_viewer_sees_a_bundle(publisher: Publisher, viewer: Publisher) -> None:
    drafted = publisher.draft(manifest_of({"a": b"1"})).json()
    assert viewer.get("bundles/vad/1.0.0").json() == drafted
    Bundle.objects.update(state="withdrawn")
    assert viewer.get("bundles/vad/1.0.0").json()["missing"] == []


@pytest.mark.parametrize(
    "path", ["bundles/vad/2", "bundles/vad/A", "bundles/%00/1", "bundles/vad/%ff", "bundles/a%2Fb/1"]
)
def test_unknown_bundles_are_not_found(publisher: Publisher, path: str) -> None:
    response = publisher.get(path)
    assert response.status_code == 404
    assert response.json()["error"]["code"] in {"unknown_bundle", "not_found"}
