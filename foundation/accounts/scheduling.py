"""The time-driven tasks of accounts."""

from datetime import timedelta

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.utils import timezone

from foundation.batches import BATCH_SIZE, run_in_batches
from foundation.scheduler import Task


def delete_expired_sessions() -> int:
    """Delete expired sessions, which belong to people who did not sign out."""
    return run_in_batches(lambda: _delete(Session.objects.filter(expire_date__lt=timezone.now())))


def delete_old_attempts() -> int:
    """Delete failed attempts to sign in that are too old to lock an account."""
    oldest = timezone.now() - timedelta(hours=settings.AXES_COOLOFF_TIME)
    return run_in_batches(lambda: _delete(AccessAttempt.objects.filter(attempt_time__lt=oldest)))


def _delete(rows: QuerySet[Session] | QuerySet[AccessAttempt]) -> int:
    batch = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True)[:BATCH_SIZE])
    rows.model._default_manager.filter(pk__in=batch).delete()
    return len(batch)


TASKS = [
    Task("delete expired sessions", delete_expired_sessions, every_seconds=3600),
    Task("delete old sign-in attempts", delete_old_attempts, every_seconds=3600),
]
