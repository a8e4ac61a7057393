"""Holds: periods in which nothing is offered, until an operator confirms that the deployments are still wanted.

After a restore the database is older than the fleet. A deployment in it may install a version that has been replaced.
"""

from django.db import connection, models, transaction
from django.db.models import Q
from django.utils import timezone

from deployments.models.device_deployment import DeviceDeployment
from foundation.errors import Conflict
from foundation.events.models import record_event


class HoldQuerySet(models.QuerySet["Hold"]):
    def active(self) -> "HoldQuerySet":
        return self.filter(released_at__isnull=True)

    def lock_out(self) -> None:
        """Wait for a hold that begins in another transaction, and prevent new ones until this transaction ends."""
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE deployments_hold IN SHARE MODE")


class Hold(models.Model):
    """While a hold is active, nothing is offered. Deployments that devices have acknowledged continue."""

    id = models.BigAutoField(primary_key=True)
    reason = models.CharField(max_length=500)
    since = models.DateTimeField(auto_now_add=True)
    released_at = models.DateTimeField(null=True)

    objects = HoldQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["released_at"],
                name="one_active_hold",
                condition=Q(released_at__isnull=True),
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"held since {self.since:%Y-%m-%d %H:%M}: {self.reason}"

    @classmethod
    def begin(cls, reason: str, *, actor: str) -> "Hold":
        """Offer nothing from now on, and withdraw offers that no device has acknowledged. Idempotent."""
        with transaction.atomic():
            hold, is_new = cls.objects.get_or_create(released_at=None, defaults={"reason": reason})
            DeviceDeployment.objects.withdraw_unacknowledged_offers()
            if is_new:
                record_event("deployment.held", f"Deployments are held: {reason}", actor=actor)
        return hold

    @classmethod
    def release(cls, *, actor: str) -> "Hold":
        """End the active hold. Raises `Conflict` (`not_held`)."""
        with transaction.atomic():
            hold = cls.objects.active().select_for_update().first()
            if hold is None:
                raise Conflict("not_held", "Deployments are not held.")
            hold.released_at = timezone.now()
            hold.save(update_fields=["released_at"])
            record_event("deployment.released", "Deployments continue.", actor=actor)
        return hold
