"""Groups of devices."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.validators import RegexValidator
from django.db import IntegrityError, models, transaction
from django.db.models import Q

from foundation.errors import Conflict
from foundation.events.models import record_event

# Names of groups and tags: they appear in URLs and on command lines.
is_label = RegexValidator(
    r"\A[A-Za-z0-9][A-Za-z0-9._+-]{0,62}\Z",
    "Use 1 to 63 letters (capitals too), digits and . _ + - with a letter or a digit first.",
)


class Group(models.Model):
    """A set of devices that operators treat alike. It sets how often its devices report."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=63, unique=True, validators=[is_label])
    description = models.CharField(max_length=500, blank=True)
    interval_seconds = models.PositiveIntegerField(default=60)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(interval_seconds__range=(1, 86_400)), name="group_interval_in_range")
        ]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def create(cls, actor: str, **fields: Any) -> "Group":
        """Create a group.

        Raises:
            Conflict: `group_exists`, if another group has the name.
        """
        with _unique_name(), transaction.atomic():
            group = cls.objects.create(**fields)
            record_event("group.made", f"Group {group} was created.", actor=actor, **fields)
        return group

    def edit(self, actor: str, **changes: Any) -> None:
        """Change `name`, `description` or `interval_seconds`.

        Raises:
            Conflict: `group_exists`, if another group has the name.
        """
        if not changes:
            return
        with _unique_name(), transaction.atomic():
            Group.objects.filter(pk=self.pk).update(**changes)
            record_event("group.edited", f"Group {self} was edited.", actor=actor, **changes)
        self.refresh_from_db()


@contextmanager
def _unique_name() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise Conflict("group_exists", "A group with this name already exists.") from None
