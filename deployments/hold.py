"""When deployments were held back, and why."""

from django.db import connection, models
from django.db.models import Q


class HoldQuerySet(models.QuerySet["Hold"]):
    def active(self) -> "HoldQuerySet":
        return self.filter(released_at__isnull=True)

    def keep_out(self) -> None:
        """Wait for a hold that is beginning, and let none begin before this transaction ends."""
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE deployments_hold IN SHARE MODE")


class Hold(models.Model):
    """While one is active, nothing is offered: waiting devices wait, whatever they were told before goes on."""

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
