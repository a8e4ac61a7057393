"""Who sees and does what."""

from typing import Any

import pytest
from django.test import Client

from deployments.models import DeviceDeployment
from devices.models import Device
from kernex.tokens.models import ApiToken
from tests.admin.conftest import Login
from tests.admin.pages import LISTS, act, page
from tests.factories import make_bundle, make_deployment, make_device, make_enrolment_token, make_user


def objects_of_each_kind() -> dict[str, Any]:
    device = make_device(name="edge-1")
    bundle = make_bundle()
    token = ApiToken.issue(make_user("bob"), "viewer", "bob's")[0]
    return {
        "devices/device": device,
        "devices/group": device.group,
        "devices/enrolmenttoken": make_enrolment_token()[0],
        "bundles/bundle": bundle,
        "deployments/deployment": make_deployment(bundle, device),
        "tokens/apitoken": token,
    }


@pytest.mark.parametrize("where", ["", *(f"{one}/" for one in LISTS)])
def test_it_sends_strangers_to_the_login(db: None, client: Client, where: str) -> None:
    answer = client.get(f"/admin/{where}")
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")


@pytest.mark.parametrize("where", ["", *(f"{one}/" for one in LISTS)])
def test_it_lets_no_user_in_who_is_not_staff(login: Login, where: str) -> None:
    answer = login("mallory", "devices.view_device", is_staff=False).get(f"/admin/{where}")
    assert answer.status_code == 302


@pytest.mark.parametrize("where", LISTS)
def test_it_refuses_lists_to_staff_without_the_permission(login: Login, where: str) -> None:
    assert login("newcomer").get(f"/admin/{where}/").status_code == 403


def test_it_tells_newcomers_to_ask_for_permissions(login: Login) -> None:
    make_device(name="edge-secret", state="pending")
    shown = page(login("newcomer"), "")
    assert "You have no permission to see anything yet" in shown
    assert "edge-secret" not in shown
    assert "kx-tile" not in shown


def test_viewers_see_objects_without_steps_or_actions(victor: Client) -> None:
    for where, one in objects_of_each_kind().items():
        listed, shown = page(victor, f"{where}/"), page(victor, f"{where}/{one.pk}/change/")
        assert 'name="action"' not in listed, where
        assert "kx-steps" not in shown, where
        assert 'name="_save"' not in shown, where


@pytest.mark.parametrize(
    ("where", "action"),
    [
        ("devices/device", "approve"), ("devices/device", "reject"), ("devices/device", "decommission"),
        ("devices/device", "deploy"), ("devices/group", "remove"), ("devices/enrolmenttoken", "revoke"),
        ("bundles/bundle", "publish"), ("bundles/bundle", "withdraw"), ("deployments/deployment", "cancel"),
        ("tokens/apitoken", "revoke"),
    ],
)  # fmt: skip
def test_viewers_cannot_act_with_made_up_requests(victor: Client, where: str, action: str) -> None:
    one = objects_of_each_kind()[where]
    kept = type(one).objects.filter(pk=one.pk).values()[0]
    answer = act(victor, where, action, one)
    assert answer.status_code in {200, 403}
    assert type(one).objects.filter(pk=one.pk).values()[0] == kept


@pytest.mark.parametrize("where", LISTS)
def test_viewers_cannot_add_anything(victor: Client, where: str) -> None:
    assert victor.get(f"/admin/{where}/add/").status_code == 403
    assert victor.post(f"/admin/{where}/add/", {"name": "x"}).status_code == 403


def test_viewers_cannot_edit_a_device(victor: Client) -> None:
    device = make_device(name="edge-1")
    answer = victor.post(f"/admin/devices/device/{device.pk}/change/", {"name": "mine", "group": device.group_id})
    assert answer.status_code == 403
    assert Device.objects.get().name == "edge-1"


def test_deploying_devices_needs_the_right_to_deploy(login: Login) -> None:
    """Whoever may edit devices may not therefore deploy to them."""
    device, bundle = make_device(), make_bundle()
    clerk = login("clerk", "devices.view_device", "devices.change_device")
    assert "Deploy a bundle" not in page(clerk, "devices/device/")
    act(clerk, "devices/device", "deploy", device, bundle=bundle.pk)
    assert not device_ways(device)


def device_ways(device: Device) -> int:
    return DeviceDeployment.objects.filter(device=device).count()


def test_a_deployer_deploys_from_the_list_of_devices(login: Login) -> None:
    device, bundle = make_device(), make_bundle()
    clerk = login("clerk", "devices.view_device", "deployments.view_deployment", "deployments.add_deployment")
    act(clerk, "devices/device", "deploy", device, bundle=bundle.pk)
    assert device_ways(device) == 1
