"""Every page loads, has a name, and costs the same number of queries for any number of objects."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group as UserGroup
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from deployments.models import DeviceDeployment
from deployments.planning import plan
from devices.models import Command, Device, HeartbeatSample
from foundation.accounts.models import ApiToken
from foundation.events.models import Event, record_event
from tests.admin.actions import LISTS, object_url
from tests.factories import (
    make_bundle,
    make_deployment,
    make_device,
    make_device_deployment,
    make_enrolment_token,
    make_group,
    make_planning_deployment,
    make_user,
)

pytestmark = pytest.mark.django_db


def add_objects(page: str, start: int, end: int) -> None:
    for number in range(start, end):
        FACTORIES[page](number)


def make_api_token(number: int) -> None:
    user = User.objects.create_user(f"robot-{number}")
    ApiToken.issue(user, "viewer", f"token {number}", actor="operator:alice")


FACTORIES: dict[str, Callable[[int], Any]] = {
    "devices": lambda number: make_device(name=f"edge-{number}", group=make_group(f"g{number % 3}")),
    "groups": lambda number: make_group(f"group-{number}"),
    "tokens": lambda number: make_enrolment_token(name=f"token {number}"),
    "bundles": lambda number: make_bundle(f"vad@1.0.{number}"),
    "deployments": lambda number: make_deployment(make_bundle(f"vad@1.0.{number}"), make_device()),
    "events": lambda number: record_event(
        "device.offline", f"event {number}", actor="scheduler", device=make_device().pk
    ),
    "users": lambda number: User.objects.create_user(f"person-{number}"),
    "user groups": lambda number: UserGroup.objects.create(name=f"people {number}"),
    "API tokens": make_api_token,
}


def count_queries(client: Client, url: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


def test_the_root_url_redirects_to_the_admin(client: Client) -> None:
    response = client.get("/")
    assert (response.status_code, response["Location"]) == (302, "/admin/")


@pytest.mark.parametrize("page", LISTS)
def test_a_list_costs_the_same_for_5_and_60_rows(boss: Client, page: str) -> None:
    add_objects(page, 0, 5)
    boss.get(LISTS[page])  # fills the caches that live as long as the process
    few = count_queries(boss, LISTS[page])
    add_objects(page, 5, 60)
    assert count_queries(boss, LISTS[page]) == few <= 20


def test_the_start_page_costs_the_same_for_one_and_many(boss: Client) -> None:
    make_device_deployment("failed")
    boss.get("/admin/")
    few = count_queries(boss, "/admin/")
    for number in range(8):
        make_device_deployment("rolled_back", bundle=make_bundle(f"vad@2.0.{number}"))
    assert count_queries(boss, "/admin/") == few


@pytest.mark.parametrize("page", LISTS)
def test_an_empty_list_loads(boss: Client, page: str) -> None:
    assert boss.get(LISTS[page]).status_code == 200
    empty_result = boss.get(LISTS[page], {"q": "no such thing"})
    assert empty_result.status_code == 200
    if page != "user groups":
        assert "Nothing matches this search." in empty_result.content.decode()


@pytest.mark.parametrize("page", [page for page in LISTS if page not in {"devices", "events"}])
def test_a_form_loads(boss: Client, page: str) -> None:
    assert boss.get(LISTS[page] + "add/").status_code == 200


@pytest.mark.parametrize("state", ["waiting", "downloading", "succeeded", "rolled_back", "cancelled"])
def test_the_pages_of_a_deployment_and_its_device_show_its_state(boss: Client, state: str) -> None:
    device_deployment = make_device_deployment(state)
    HeartbeatSample.objects.create(device=device_deployment.device, at=timezone.now(), status="idle", metrics={})
    for page, obj in (("deployments", device_deployment.deployment), ("devices", device_deployment.device)):
        assert device_deployment.get_state_display() in boss.get(object_url(page, obj)).content.decode()


def test_the_end_of_a_long_failure_message_is_shown_and_the_rest_on_demand(boss: Client) -> None:
    device_deployment = make_device_deployment("failed")
    message = "\n".join(f"line {number} <of> many" for number in range(100)) + "\nValueError: the decisive line"
    DeviceDeployment.objects.filter(pk=device_deployment.pk).update(message=message, late_state="rolled_back")
    for page, obj in (("deployments", device_deployment.deployment), ("devices", device_deployment.device)):
        page_text = boss.get(object_url(page, obj)).content.decode()
        before, _, on_demand = page_text.partition("<summary>Whole message</summary>")
        assert "ValueError: the decisive line" in before
        assert "line 1 &lt;of&gt; many" not in before
        assert "line 1 &lt;of&gt; many" in on_demand
        assert "After the end, the device reported: rolled back." in page_text


def test_a_deployment_shows_that_it_is_being_planned_or_has_no_devices(boss: Client) -> None:
    deployment = make_planning_deployment(make_bundle(device_types=["cam"]), make_device(device_type="edge"))
    assert "planning the chosen devices" in boss.get(object_url("deployments", deployment)).content.decode()
    plan()
    assert "no devices" in boss.get(object_url("deployments", deployment)).content.decode()


@pytest.mark.parametrize("state", ["draft", "verifying", "ready", "withdrawn"])
def test_a_bundle_in_each_state_has_a_page(boss: Client, state: str) -> None:
    bundle = make_bundle(state=state)
    page_text = boss.get(object_url("bundles", bundle)).content.decode()
    assert "model.onnx" in page_text
    assert bundle.manifest_sha256 in page_text


def test_the_pages_of_tokens_groups_users_and_events_load(boss: Client) -> None:
    token, _ = make_enrolment_token()
    api_token, _ = ApiToken.issue(User.objects.get(), "viewer", "mine", actor="operator:alice")
    event = record_event("device.offline", "Gone.", actor="scheduler", device=make_device().pk, why={"a": [1]})
    pairs = [("tokens", token), ("groups", token.group), ("API tokens", api_token), ("events", event)]
    for page, obj in [*pairs, ("users", User.objects.get())]:
        assert boss.get(object_url(page, obj)).status_code == 200


def test_a_new_api_token_is_for_its_creator_by_default(boss: Client, alice: User) -> None:
    make_user("another")
    form = boss.get(f"{LISTS['API tokens']}add/").context["adminform"].form
    assert form["user"].initial == alice.pk


def test_an_unknown_object_redirects_to_the_start_page(boss: Client) -> None:
    for page in ("devices", "deployments", "bundles"):
        assert boss.get(f"{LISTS[page]}nonsense/change/").status_code == 302


def test_what_a_device_reports_cannot_inject_html(boss: Client) -> None:
    script = "<script>alert(1)</script>"
    running = {"vad": {"version": script, "healthy": False, "manifest_sha256": script, "verdict": {script: script}}}
    device = make_device(name=script, attributes={script: script}, metrics={script: [script]}, running_bundles=running)
    for url in (object_url("devices", device), LISTS["devices"]):
        assert script not in boss.get(url).content.decode()


def test_the_progress_of_a_deployment_is_available_as_json(boss: Client) -> None:
    device_deployment = make_device_deployment("downloading")
    response = boss.get(f"{LISTS['deployments']}{device_deployment.deployment_id}/progress")
    assert response.json()["is_running"] is True
    assert [(bar["state"], bar["count"]) for bar in response.json()["segments"]] == [("downloading", 1)]


def test_the_page_of_a_bundle_links_to_the_devices_that_run_it(boss: Client) -> None:
    bundle = make_bundle("vad@1.0.0")
    assert "No device reports that it runs this bundle." in boss.get(object_url("bundles", bundle)).content.decode()
    running = {"vad": {"version": "1.0.0", "manifest_sha256": bundle.manifest_sha256, "healthy": False}}
    for name in ("bench-1", "bench-2"):
        make_device(
            name=name, running_bundles=running, reported_health="unhealthy", last_heartbeat_at=timezone.now()
        )  # fmt: skip
    page_text = boss.get(object_url("bundles", bundle)).content.decode()
    url = f"{LISTS['devices']}?q=runs.vad+%3D+%221.0.0%22+and+state+%3D+accepted+and+health+%3D+unhealthy"
    assert f'href="{url.replace("&", "&amp;")}"><span class="kx-state kx-unhealthy">2 unhealthy</span></a>' in page_text
    assert boss.get(url).context["cl"].result_count == 2


def test_the_search_of_devices_is_a_query(boss: Client) -> None:
    make_device(name="bench-1", attributes={"board": "r5"})
    make_device(name="bench-2", attributes={"board": "r4"})
    page_text = boss.get(LISTS["devices"], {"q": "bench and attr.board = r5"}).content.decode()
    assert "bench-1" in page_text
    assert "bench-2" not in page_text
    assert "Did you mean `agent`?" in boss.get(LISTS["devices"], {"q": "agnet = 1"}).content.decode()


def test_the_offline_filter_shows_only_offline_devices(boss: Client) -> None:
    last_heartbeat_at = timezone.now() - timedelta(days=2)
    make_device(name="silent", last_heartbeat_at=last_heartbeat_at)
    make_device(name="talking", last_heartbeat_at=timezone.now())
    page_text = boss.get(LISTS["devices"], {"liveness": "offline"}).content.decode()
    assert "silent" in page_text
    assert "2 days ago" in page_text
    assert "talking" not in page_text


def test_the_tag_filter_shows_only_tagged_devices(boss: Client) -> None:
    make_device(name="tagged", tags=["outdoor"])
    make_device(name="bare")
    page_text = boss.get(LISTS["devices"], {"tag": "outdoor"}).content.decode()
    assert "tagged" in page_text
    assert "bare" not in page_text


def test_viewing_pages_writes_nothing(boss: Client) -> None:
    device_deployment = make_device_deployment("downloading")
    before = [model.objects.count() for model in (Event, Command, Device, DeviceDeployment)]
    for page, obj in (("deployments", device_deployment.deployment), ("devices", device_deployment.device)):
        boss.get(object_url(page, obj))
    assert [model.objects.count() for model in (Event, Command, Device, DeviceDeployment)] == before


def test_every_list_is_in_the_sidebar(boss: Client) -> None:
    page = boss.get("/admin/").content.decode()
    lists = [
        reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") for model in admin.site._registry
    ]
    assert len(lists) > 10
    assert [path for path in lists if f'href="{path}"' not in page] == []


@pytest.mark.parametrize("path", ["/admin/devices/device/", "/admin/tokens/apitoken/", "/admin/events/event/"])
def test_a_list_has_a_correct_title(boss: Client, path: str) -> None:
    page = boss.get(path).content.decode()
    assert "to change" not in page
    assert "Api token" not in page


def test_a_page_that_does_not_exist_keeps_the_sidebar(boss: Client) -> None:
    response = boss.get("/admin/nonsense/")
    page = response.content.decode()
    assert response.status_code == 404
    assert "There is no page at this URL." in page
    assert 'href="/admin/devices/device/"' in page
