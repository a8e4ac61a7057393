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
from foundation.queries.lexer import MAX_QUERY_SIZE

# Names of groups and tags: they appear in URLs and on command lines.
is_label = RegexValidator(
    r"\A[A-Za-z0-9][A-Za-z0-9._+-]{0,62}\Z",
    "Use 1 to 63 letters (capitals too), digits and . _ + - with a letter or a digit first.",
)


IS_STATIC = Q(query="")


class GroupQuerySet(models.QuerySet["Group"]):
    def static(self) -> "GroupQuerySet":
        return self.filter(IS_STATIC)

    def dynamic(self) -> "GroupQuerySet":
        return self.exclude(IS_STATIC)


class Group(models.Model):
    """A set of devices that operators treat alike.

    Each device belongs to one static group, which sets how often it reports. A dynamic group has a query instead
    (`devices.dynamic_groups`): it contains all devices that match, however many other groups they are in. A group stays
    static or dynamic.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=63, unique=True, validators=[is_label])
    description = models.CharField(max_length=500, blank=True)
    query = models.TextField(default="", db_default="", blank=True, max_length=MAX_QUERY_SIZE)
    interval_seconds = models.PositiveIntegerField(default=60)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = GroupQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(interval_seconds__range=(1, 86_400)), name="group_interval_in_range")
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_dynamic(self) -> bool:
        return bool(self.query)

    @classmethod
    def create(cls, actor: str, **fields: Any) -> "Group":
        """Create a group. Check its query before, with `check_group_query`.

        Raises:
            Conflict: `group_exists`, if another group has the name.
        """
        with _unique_name(), transaction.atomic():
            group = cls.objects.create(**fields)
            record_event("group.made", f"Group {group} was created.", actor=actor, **fields)
        return group

    def edit(self, actor: str, **changes: Any) -> None:
        """Change `name`, `description`, `interval_seconds`, or the `query` of a dynamic group.

        Raises:
            Conflict: `group_exists`, if another group has the name; `wrong_group_type`, if a static group would become
                dynamic, or a dynamic one static.
        """
        if not changes:
            return
        rows = Group.objects.filter(pk=self.pk)
        if "query" in changes:
            rows = rows.dynamic() if changes["query"] else rows.static()
        with _unique_name(), transaction.atomic():
            if not rows.update(**changes) and "query" in changes:
                raise Conflict("wrong_group_type", "A group stays static or dynamic: create another group.")
            record_event("group.edited", f"Group {self} was edited.", actor=actor, **changes)
        self.refresh_from_db()


@contextmanager
def _unique_name() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise Conflict("group_exists", "A group with this name already exists.") from None
