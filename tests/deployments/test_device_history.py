"""GET /api/v1/devices/{id}/deployments"""

from uuid import uuid4

from pytest_django import DjangoAssertNumQueries

from bundles.models import Bundle
from tests.devices.operators import Person
from tests.factories import make_bundle, make_device, make_device_deployment


def test_a_device_has_its_deployments_newest_first(
    victor: Person, bundle: Bundle, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    device = make_device()
    first = make_device_deployment("succeeded", device=device)
    second = make_device_deployment("failed", device=device, bundle=make_bundle("vad@2.0.0"))
    make_device_deployment("failed", device=make_device())
    victor.get("/deployments")
    with django_assert_max_num_queries(4):  # the token and its limit, the device, its deployments
        results = victor.get(f"/devices/{device.pk}/deployments").json()["results"]
    assert [(row["deployment"], row["bundle"], row["state"]) for row in results] == [
        (str(second.deployment_id), "vad@2.0.0", "failed"),
        (str(first.deployment_id), "vad@1.0.0", "succeeded"),
    ]
    assert {row["device"] for row in results} == {str(device.pk)}


def test_deployments_are_paginated(victor: Person, bundle: Bundle) -> None:
    device = make_device()
    for _ in range(2):
        make_device_deployment("succeeded", device=device)
    page = victor.get(f"/devices/{device.pk}/deployments?page_size=1").json()
    assert (len(page["results"]), page["next"] is None) == (1, False)


def test_unknown_devices_and_parameters_are_refused(victor: Person, stranger: Person, bundle: Bundle) -> None:
    path = f"/devices/{uuid4()}/deployments"
    assert victor.get(path).status_code == 404
    assert stranger.get(path).status_code == 401
    assert victor.get(f"/devices/{make_device().pk}/deployments?color=red").status_code == 400
