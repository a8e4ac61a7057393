"""Retention: old events, sessions and failed sign-ins are deleted in batches."""

from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.contrib.sessions.models import Session
from django.db import connection
from django.utils import timezone
from pytest_django.fixtures import Settings

from foundation.accounts.scheduling import delete_expired_sessions, delete_old_attempts
from foundation.events.models import Event, record_event
from foundation.events.scheduling import delete_old_events

pytestmark = pytest.mark.django_db


def make_event(message: str, *, days_old: float) -> None:
    event = record_event("a.test", message, actor="operator:alice")
    Event.objects.filter(pk=event.pk).update(at=timezone.now() - timedelta(days=days_old))


def messages() -> list[str]:
    return list(Event.objects.order_by("id").values_list("message", flat=True))


def test_old_events_are_deleted(settings: Settings) -> None:
    settings.EVENT_KEEP_DAYS = 100
    make_event("old", days_old=100.1)
    make_event("young", days_old=99.9)
    make_event("new", days_old=0)
    assert delete_old_events() == 1
    assert messages() == ["young", "new"]
    assert delete_old_events() == 0


@pytest.mark.parametrize(("keep_days", "batch_size"), [(0, 100), (-400, 100), (29, 100), (-(2**31), 2**31 - 1)])
def test_the_database_always_keeps_thirty_days(keep_days: int, batch_size: int) -> None:
    make_event("older", days_old=30.1)
    make_event("younger", days_old=29.9)
    with connection.cursor() as cursor:
        cursor.execute("SELECT delete_old_events(%s, %s)", [keep_days, batch_size])
    assert messages() == ["younger"]


@pytest.mark.parametrize("batch_size", [-1, 0])
def test_a_batch_size_below_one_deletes_nothing(batch_size: int) -> None:
    make_event("old", days_old=900)
    with connection.cursor() as cursor:
        cursor.execute("SELECT delete_old_events(31, %s)", [batch_size])
    assert messages() == ["old"]


def test_one_call_deletes_at_most_ten_thousand_events() -> None:
    """It finds each of them by its key, even if the planner believes that the table is empty."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE events_event")
    Event.objects.bulk_create(Event(kind="a.test", message="old", actor="a") for _ in range(10_010))
    Event.objects.update(at=timezone.now() - timedelta(days=900))
    with connection.cursor() as cursor:
        cursor.execute("SELECT delete_old_events(31, 1000000)")
        assert cursor.fetchone() == (10_000,)
    assert delete_old_events() == 10


def test_expired_sessions_are_deleted() -> None:
    now = timezone.now()
    for key, minutes in (("expired", -1), ("alive", 1)):
        Session.objects.create(session_key=key, session_data="", expire_date=now + timedelta(minutes=minutes))
    assert delete_expired_sessions() == 1
    assert Session.objects.get().session_key == "alive"


def test_failed_sign_ins_are_deleted_when_they_no_longer_lock_anyone_out() -> None:
    for name, hours in (("old", 1.1), ("fresh", 0.9)):
        attempt = AccessAttempt.objects.create(username=name, failures_since_start=1)
        AccessAttempt.objects.filter(pk=attempt.pk).update(attempt_time=timezone.now() - timedelta(hours=hours))
    assert delete_old_attempts() == 1
    assert AccessAttempt.objects.get().username == "fresh"
