"""GET /api/v1/deployments/{id}, …/devices and POST …/cancel"""

from uuid import uuid4

import pytest
from pytest_django import DjangoAssertNumQueries

from bundles.models import Bundle
from deployments.models import DeviceDeployment
from deployments.planning import plan
from deployments.states import COUNTED_RESULTS
from deployments.termination import carry_out_cancels
from tests.devices.operators import Person
from tests.factories import complete, make_deployment, make_device, make_device_deployment, make_planning_deployment


def test_it_counts_every_state(victor: Person, bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *(make_device() for _ in range(3)))
    first = DeviceDeployment.objects.filter(deployment=deployment)[0]
    DeviceDeployment.objects.filter(pk=first.pk).transition_to("cancelled")
    response = victor.get(f"/deployments/{deployment.pk}").json()
    assert response["counts"] == dict.fromkeys(COUNTED_RESULTS, 0) | {"waiting": 2, "cancelled": 1}


def test_counts_are_stored_at_the_end(
    victor: Person, bundle: Bundle, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    device_deployment = make_device_deployment("failed")
    complete()
    victor.get("/deployments")
    # The token, its rate limit, the deployment, its phases and their counts, what is observed.
    with django_assert_num_queries(6):
        response = victor.get(f"/deployments/{device_deployment.deployment_id}").json()
    assert (response["state"], response["counts"]["failed"]) == ("finished", 1)


def test_a_deployment_needs_ten_queries(
    victor: Person, bundle: Bundle, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    device_deployment = make_device_deployment("waiting")
    victor.get("/deployments")
    # Further: the counts, and three for what happens next.
    with django_assert_num_queries(10):
        victor.get(f"/deployments/{device_deployment.deployment_id}")


@pytest.mark.parametrize("path", ["", "/devices"])
def test_unknown_deployments_are_not_found(victor: Person, stranger: Person, path: str) -> None:
    response = victor.get(f"/deployments/{uuid4()}{path}")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
    assert victor.get(f"/deployments/seven{path}").status_code == 404
    assert stranger.get(f"/deployments/{uuid4()}{path}").status_code == 401


def test_it_lists_devices_with_their_reasons(victor: Person, bundle: Bundle) -> None:
    device_deployment = make_device_deployment("failed", device=make_device(name="shelf-1"))
    DeviceDeployment.objects.filter(pk=device_deployment.pk).update(
        reason_code="no_space", message="full", bytes_done=3, bytes_total=9, late_state="succeeded"
    )
    (row,) = victor.get(f"/deployments/{device_deployment.deployment_id}/devices").json()["results"]
    assert row["device"] == str(device_deployment.device_id)
    assert row["device_name"] == "shelf-1"
    assert (row["state"], row["attempt"], row["reason_code"], row["message"]) == ("failed", 1, "no_space", "full")
    assert (row["bytes_done"], row["bytes_total"], row["late_state"]) == (3, 9, "succeeded")
    assert row["finished_at"].endswith("Z")
    assert row["state_changed_at"].endswith("Z")


def test_devices_are_filtered_and_paged(victor: Person, bundle: Bundle) -> None:
    deployment = make_deployment(bundle, *(make_device() for _ in range(5)))
    ids = list(DeviceDeployment.objects.filter(deployment=deployment).values_list("pk", flat=True))
    DeviceDeployment.objects.filter(pk__in=ids[:2]).transition_to("cancelled")
    path = f"/deployments/{deployment.pk}/devices"
    assert len(victor.get(f"{path}?state=cancelled").json()["results"]) == 2
    assert victor.get(f"{path}?state=lost").status_code == 400
    unknown = victor.get(f"{path}?status=failed")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, "unknown_parameter")
    seen: list[str] = []
    next_page: str | None = f"{path}?page_size=2"
    while next_page:
        page = victor.get(next_page.removeprefix("http://testserver/api/v1")).json()
        assert len(page["results"]) <= 2
        seen += [row["device"] for row in page["results"]]
        next_page = page["next"]
    assert len(seen) == len(set(seen)) == 5


def test_more_devices_cost_no_more_queries(
    victor: Person, bundle: Bundle, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    deployment = make_deployment(bundle, *(make_device() for _ in range(20)))
    victor.get("/deployments")
    # The token, its rate limit, whether the deployment exists, the page, and four for what the devices wait for.
    with django_assert_num_queries(8):
        assert len(victor.get(f"/deployments/{deployment.pk}/devices").json()["results"]) == 20


def test_an_operator_cancels(alice: Person, bundle: Bundle) -> None:
    deployment = make_deployment(bundle, make_device())
    response = alice.post(f"/deployments/{deployment.pk}/cancel")
    assert response.status_code == 200
    assert (response.json()["state"], response.json()["finished_at"]) == ("cancelled", None)
    assert response.json()["counts"]["waiting"] == 1
    repeated = alice.post(f"/deployments/{deployment.pk}/cancel")
    assert (repeated.status_code, repeated.json()) == (200, response.json())
    carry_out_cancels()
    complete()
    ended = alice.get(f"/deployments/{deployment.pk}").json()
    assert (ended["state"], ended["counts"]["cancelled"]) == ("cancelled", 1)
    assert ended["finished_at"] is not None


def test_a_deployment_that_is_planned_can_be_cancelled(alice: Person, bundle: Bundle) -> None:
    deployment = make_planning_deployment(bundle, make_device())
    response = alice.post(f"/deployments/{deployment.pk}/cancel")
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")
    assert plan() == 0
    complete()
    ended = alice.get(f"/deployments/{deployment.pk}").json()
    assert (ended["state"], sum(ended["counts"].values())) == ("cancelled", 0)
    assert ended["finished_at"] is not None


def test_a_finished_deployment_cannot_be_cancelled(alice: Person, bundle: Bundle) -> None:
    device_deployment = make_device_deployment("succeeded")
    complete()
    response = alice.post(f"/deployments/{device_deployment.deployment_id}/cancel")
    assert response.status_code == 409
    assert (response.json()["error"]["code"], response.json()["error"]["state"]) == ("wrong_state", "finished")


def test_only_operators_cancel(alice: Person, victor: Person, stranger: Person, bundle: Bundle) -> None:
    deployment = make_deployment(bundle, make_device())
    assert victor.post(f"/deployments/{deployment.pk}/cancel").status_code == 403
    assert stranger.post(f"/deployments/{deployment.pk}/cancel").status_code == 401
    assert alice.post(f"/deployments/{uuid4()}/cancel").status_code == 404
    deployment.refresh_from_db()
    assert deployment.state == "running"
