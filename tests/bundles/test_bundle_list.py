"""GET /api/v1/bundles and GET /api/v1/bundles/{name}/{version}"""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from bundles.models import Bundle
from tests.bundles.publisher import Publisher, manifest_of


def names(answer: object) -> list[str]:
    return [f"{row['name']}@{row['version']}" for row in answer.json()["results"]]  # type: ignore[attr-defined]


def test_it_lists_the_newest_first_also_for_viewers(publisher: Publisher, viewer: Publisher) -> None:
    for version in ("1", "2", "3"):
        publisher.draft(manifest_of({"a": b"1"}, version=version))
    answer = viewer.get("bundles")
    assert names(answer) == ["vad@3", "vad@2", "vad@1"]
    assert set(answer.json()) == {"next", "previous", "results"}
    assert "missing" not in answer.json()["results"][0]


def test_it_answers_in_pages(publisher: Publisher) -> None:
    for version in ("1", "2", "3"):
        publisher.draft(manifest_of({"a": b"1"}, version=version))
    page = publisher.get("bundles", page_size="2").json()
    assert [row["version"] for row in page["results"]] == ["3", "2"]
    following = publisher.client.get(page["next"], headers=publisher.headers).json()
    assert [row["version"] for row in following["results"]] == ["1"]


def test_it_filters(publisher: Publisher) -> None:
    publisher.draft(manifest_of({"a": b"1"}))
    publisher.push({"a": b"1"}, name="other")
    assert names(publisher.get("bundles", name="vad")) == ["vad@1.0.0"]
    assert names(publisher.get("bundles", state="ready")) == ["other@1.0.0"]
    assert names(publisher.get("bundles", name="vad", state="ready")) == []


@pytest.mark.parametrize(
    ("query", "code"),
    [("state=gone", "invalid"), ("name=A", "invalid"), ("name=a%00", "bad_query"), ("name=%ED%A0%80", "invalid")],
)
def test_it_refuses_a_filter_that_cannot_match(publisher: Publisher, query: str, code: str) -> None:
    answer = publisher.client.get(f"/api/v1/bundles?{query}", headers=publisher.headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


@pytest.mark.parametrize("cursor", ["x", "cD1hYmM=", "cD0lMDA=", "bz0x", "cD0yMDI0LTAxLTAx"])
def test_an_invalid_cursor_is_a_4xx(publisher: Publisher, cursor: str) -> None:
    answer = publisher.get("bundles", cursor=cursor)
    assert answer.status_code in {200, 400, 404}
    assert answer["Content-Type"] == "application/json"


def test_it_needs_a_token(stranger: Publisher) -> None:
    assert stranger.get("bundles").status_code == 401
    assert stranger.get("bundles/vad/1.0.0").status_code == 401


def test_a_list_costs_the_same_however_long(publisher: Publisher) -> None:
    publisher.draft(manifest_of({"a": b"1"}))
    publisher.get("bundles")
    with CaptureQueriesContext(connection) as few:
        publisher.get("bundles")
    for version in range(10):
        publisher.draft(manifest_of({"a": b"1"}, version=str(version)))
    with CaptureQueriesContext(connection) as many:
        assert len(publisher.get("bundles").json()["results"]) == 11
    assert len(many) == len(few) == 3  # the token, its rate limit, the page


def test_it_shows_one_bundle(publisher: Publisher, viewer: Publisher) -> None:
    drafted = publisher.draft(manifest_of({"a": b"1"})).json()
    assert viewer.get("bundles/vad/1.0.0").json() == drafted
    Bundle.objects.update(state="withdrawn")
    assert viewer.get("bundles/vad/1.0.0").json()["missing"] == []


@pytest.mark.parametrize(
    "address", ["bundles/vad/2", "bundles/vad/A", "bundles/%00/1", "bundles/vad/%ff", "bundles/a%2Fb/1"]
)
def test_it_does_not_know(publisher: Publisher, address: str) -> None:
    answer = publisher.get(address)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] in {"unknown_bundle", "not_found"}
