"""Rate limits: a burst of one minute's requests, then one at a time; shared by all processes; one statement."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test import Client
from pytest_django import DjangoAssertNumQueries
from pytest_django.fixtures import Settings

from foundation.rate_limits.models import RateLimit, seconds_to_wait
from foundation.rate_limits.scheduling import delete_unused_limits
from tests.factories import make_token, make_user


def age(key: str, seconds: float) -> None:
    """Move the limit of one key into the past by some seconds."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE rate_limits_ratelimit SET theoretical_arrival_at = theoretical_arrival_at"
            " - %s * interval '1 second' WHERE key = %s",
            [seconds, key],
        )


@pytest.mark.django_db
def test_a_burst_is_limited_to_one_minutes_requests() -> None:
    assert [seconds_to_wait("a", 6) for _ in range(6)] == [0] * 6
    assert seconds_to_wait("a", 6) == 10
    assert seconds_to_wait("b", 6) == 0


@pytest.mark.django_db
def test_the_wait_is_exact_and_a_refused_request_is_not_counted() -> None:
    for _ in range(6):
        seconds_to_wait("a", 6)
    age("a", 9)
    assert [seconds_to_wait("a", 6) for _ in range(5)] == [1] * 5
    age("a", 1)
    assert [seconds_to_wait("a", 6) for _ in range(2)] == [0, 10]


@pytest.mark.django_db
def test_a_check_is_one_statement(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(2):
        assert [seconds_to_wait("a", 1) for _ in range(2)] == [0, 60]


@pytest.mark.django_db(transaction=True)
def test_processes_share_one_limit() -> None:
    start = threading.Barrier(8)

    def send_requests(_: int) -> list[int]:
        start.wait()
        try:
            return [seconds_to_wait("a", 50) for _ in range(10)]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        waits = [wait for waits_of_thread in pool.map(send_requests, range(8)) for wait in waits_of_thread]
    admitted = Counter(wait == 0 for wait in waits)[True]
    assert 50 <= admitted <= 53, "one may be admitted for each 1.2 s that the test takes"


@pytest.mark.django_db
def test_the_scheduler_deletes_unused_limits() -> None:
    for key in "ab":
        seconds_to_wait(key, 1)
    age("a", 61)
    assert delete_unused_limits() == 1
    assert list(RateLimit.objects.values_list("key", flat=True)) == ["b"]


@pytest.mark.django_db
def test_the_table_is_unlogged() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relpersistence FROM pg_class WHERE relname = 'rate_limits_ratelimit'")
        assert cursor.fetchone() == ("u",)


@pytest.mark.django_db
def test_an_api_token_over_its_limit_gets_429(client: Client, settings: Settings) -> None:
    settings.TOKEN_REQUESTS_PER_MINUTE = 2
    first, second = (f"Bearer {make_token(make_user(), 'viewer')}" for _ in range(2))
    statuses = [client.get("/api/v1/devices", headers={"Authorization": first}).status_code for _ in range(2)]
    refused = client.get("/api/v1/devices", headers={"Authorization": first})
    assert statuses == [200, 200]
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "30"
    assert refused.json() == {"error": {"code": "throttled", "message": "Too many requests. Try again in 30 s."}}
    assert client.get("/api/v1/devices", headers={"Authorization": second}).status_code == 200


@pytest.mark.django_db
def test_a_limit_of_0_disables_it(client: Client, settings: Settings) -> None:
    settings.TOKEN_REQUESTS_PER_MINUTE = 0
    headers = {"Authorization": f"Bearer {make_token(make_user(), 'viewer')}"}
    assert client.get("/api/v1/devices", headers=headers).status_code == 200
    assert not RateLimit.objects.exists()
