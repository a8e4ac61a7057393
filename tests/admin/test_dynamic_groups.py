"""Dynamic groups in the admin: created, edited, counted on their pages, and chosen for deployments."""

import re
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from devices.models import Group
from tests.factories import make_device, make_group

pytestmark = pytest.mark.django_db
LIST = "/admin/devices/group/"
FORM = {"name": "cams", "description": "", "query": "type = cam", "interval_seconds": "60"}


def text(response: Any) -> str:
    return unescape(response.content.decode())


def test_a_dynamic_group_is_created_and_edited(boss: Client) -> None:
    assert boss.post(f"{LIST}add/", FORM).status_code == 302
    group = Group.objects.get(name="cams")
    assert group.query == "type = cam"
    boss.post(f"{LIST}{group.pk}/change/", FORM | {"query": "tag = north"})
    group.refresh_from_db()
    assert group.query == "tag = north"
    page = boss.post(f"{LIST}{group.pk}/change/", FORM | {"query": ""}, follow=True)
    assert "This field is required" in text(page)
    assert "tag = north" in text(boss.get(LIST))


def test_a_form_has_the_fields_of_its_type(boss: Client) -> None:
    groups = {"query": make_group("cams", query="type = cam"), "interval_seconds": make_group("lab")}
    for own, other in [("query", "interval_seconds"), ("interval_seconds", "query")]:
        path = f"{LIST}{groups[own].pk}/change/"
        page = text(boss.get(path))
        assert f'name="{own}"' in page
        assert f'name="{other}"' not in page
        boss.post(path, FORM | {"name": own, "query": "tag = x", "interval_seconds": "5"})
        assert boss.post(path, FORM | {"name": "", "query": ""}).status_code == 200
    lab = Group.objects.get(pk=groups["interval_seconds"].pk)
    assert (lab.query, lab.interval_seconds) == ("", 5)


def test_a_wrong_query_is_explained(boss: Client) -> None:
    make_group("cams", query="type = cam")
    for query, message in [
        ("agnet = 1", "Unknown field 'agnet'. Did you mean `agent`? (at character 1)"),
        ("type = x and group = cams", "'cams' is a dynamic group."),
    ]:
        page = boss.post(f"{LIST}add/", FORM | {"name": "new", "query": query})
        assert message in text(page)
        assert re.search(r"\(at character \d+\)", text(page))
    assert not Group.objects.filter(name="new").exists()


def test_a_page_counts_the_devices_and_links_to_them(boss: Client) -> None:
    lab, cams = make_group("lab"), make_group("cams", query="type = cam and name ~ a")
    make_device(name="a", device_type="cam", group=lab)
    make_device(name="b", device_type="cam", group=lab)
    for group, count in [(lab, 2), (cams, 1)]:
        link = re.search(
            r'class="kx-link" href="(/admin/devices/device/\?[^"]+)">(\d+)</a>',
            text(boss.get(f"{LIST}{group.pk}/change/")),
        )
        assert link is not None
        assert int(link[2]) == count
        assert boss.get(link[1]).context["cl"].result_count == count


def test_the_list_counts_nothing(boss: Client) -> None:
    counts = []
    for number in (1, 2, 3):
        make_group(f"dynamic-{number}", query="type = cam")
        with CaptureQueriesContext(connection) as queries:
            boss.get(LIST)
        counts.append(len(queries))
    assert counts[1] == counts[2]


def test_only_static_groups_contain_devices(boss: Client) -> None:
    make_group("cams", query="type = cam")
    device = make_device(group=make_group("lab"))
    for path in (f"/admin/devices/device/{device.pk}/change/", "/admin/devices/enrolmenttoken/add/"):
        options = re.findall(r"<option[^>]*>\s*([^<]+?)\s*</option>", text(boss.get(path)))
        assert "lab" in options
        assert "cams" not in options
    assert "cams" in text(boss.get("/admin/deployments/deployment/add/"))
