"""The links below the list of devices export what the list shows."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.test import Client

from devices.export import SLOTS
from tests.factories import make_device

pytestmark = pytest.mark.django_db
LIST = "/admin/devices/device/"


def names(response: Any) -> list[str]:
    assert response.status_code == 200
    lines = b"".join(response.streaming_content).decode().splitlines()[1:]
    return sorted(line.split(",")[1] for line in lines)


def link(response: Any, export_format: str) -> str:
    match = re.search(rf'href="({LIST}export/{export_format}[^"]*)"', response.content.decode())
    assert match
    return unescape(match[1])


@pytest.fixture
def fleet(db: None) -> None:
    make_device(name="a", tags=["north"])
    make_device(name="b", tags=["north"], state="pending")
    make_device(name="c")


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("", ["a", "b", "c"]),
        ("?state__exact=accepted&tag=north", ["a"]),
        ("?q=name+in+(a,+c)&o=-1", ["a", "c"]),
        ("?q=north", []),
    ],
)
def test_a_link_keeps_the_present_search(boss: Client, fleet: None, search: str, expected: list[str]) -> None:
    page = boss.get(LIST + search)
    if expected:
        assert names(boss.get(link(page, "csv"))) == expected
        assert boss.get(link(page, "jsonl"))["Content-Type"] == "application/x-ndjson"
    else:
        assert "Export these devices" not in page.content.decode()


def test_a_wrong_search_is_explained_on_the_list(boss: Client, fleet: None) -> None:
    for parameters, message in [
        ("q=agnet+%3D+1", "Did you mean `agent`? (at character 1)"),
        ("state__foo=1", "This list has no such filter."),
    ]:
        page = boss.get(f"{LIST}export/csv?{parameters}", follow=True)
        assert page.redirect_chain == [(LIST, 302)]
        assert message in unescape(page.content.decode())


def test_another_format_and_nul_are_refused(boss: Client) -> None:
    assert boss.get(f"{LIST}export/xml").status_code == 404
    assert boss.get(f"{LIST}export/csv?tag=%00").status_code == 400


def test_an_export_needs_the_permission_to_view(staff: Callable[..., Client], fleet: None) -> None:
    assert staff(name="bob").get(f"{LIST}export/csv").status_code == 403
    assert names(staff("devices.view_device", name="eve").get(f"{LIST}export/csv")) == ["a", "b", "c"]
    assert Client().get(f"{LIST}export/csv").status_code == 302


def test_one_export_too_many_is_explained(boss: Client, fleet: None) -> None:
    assert SLOTS.acquire(blocking=False)
    try:
        page = boss.get(f"{LIST}export/csv", follow=True)
    finally:
        SLOTS.release()
    assert "Too many exports at the moment" in page.content.decode()
