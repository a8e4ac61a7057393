"""Where a bundle runs: GET /api/v1/bundles/{name}/{version}/running."""

from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from bundles.models import Bundle
from tests.devices.operators import Person
from tests.factories import make_bundle, make_device


def make_running(bundle: Bundle, count: int, health: str = "healthy", *, online: bool = True) -> None:
    """Create devices that report to run a bundle."""
    running = {
        bundle.name: {
            "version": bundle.version, "manifest_sha256": bundle.manifest_sha256, "healthy": health == "healthy",
        }
    }  # fmt: skip
    last_heartbeat_at = timezone.now() - timedelta(days=0 if online else 1)
    for _ in range(count):
        make_device(running_bundles=running, reported_health=health, last_heartbeat_at=last_heartbeat_at)


@pytest.fixture
def fleet(bundle: Bundle) -> None:
    make_running(bundle, 3)
    make_running(bundle, 2, "unhealthy")
    make_running(bundle, 1, online=False)
    make_running(make_bundle("vad@2.0.0"), 4)
    make_device()


COUNTS = {"healthy": 3, "restarting": 0, "unhealthy": 2, "unknown": 1}


def test_devices_are_counted_by_health(
    fleet: None, victor: Person, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    victor.get("/deployments")
    # The token, its rate limit, the bundle; in a transaction with a time limit: the counts and the total.
    with django_assert_num_queries(8):
        assert victor.get("/bundles/vad/1.0.0/running").json() == COUNTS


def test_a_bundle_that_runs_nowhere(victor: Person, bundle: Bundle) -> None:
    assert victor.get("/bundles/vad/1.0.0/running").json() == dict.fromkeys(COUNTS, 0)


def test_an_unknown_bundle_is_not_found(victor: Person, stranger: Person) -> None:
    response = victor.get("/bundles/vad/9.9.9/running")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_bundle")
    assert stranger.get("/bundles/vad/1.0.0/running").status_code == 401


def test_another_manifest_with_the_same_label_is_another_bundle(victor: Person, bundle: Bundle) -> None:
    """A device that was enrolled elsewhere may run a bundle of the same name and version."""
    running = {"vad": {"version": "1.0.0", "manifest_sha256": "b" * 64, "healthy": True}}
    make_device(running_bundles=running, reported_health="healthy", last_heartbeat_at=timezone.now())
    assert victor.get("/bundles/vad/1.0.0/running").json() == dict.fromkeys(COUNTS, 0)
