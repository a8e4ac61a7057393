"""Groups of devices, and the enrolment tokens that let new devices into them."""

import hashlib
import re
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import IntegrityError, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from foundation.errors import Conflict
from foundation.events.models import record_event

# Names and tags stand in addresses and on command lines.
is_label = RegexValidator(
    r"\A[A-Za-z0-9][A-Za-z0-9._+-]{0,62}\Z", "Use at most 63 letters, digits and . _ + - after a letter or a digit."
)

PREFIX = "kxe_"
# What may follow the dot is the fingerprint of the trust root, for the agent's eyes only.
_TOKEN = re.compile(rf"({PREFIX}[A-Za-z0-9_-]{{43}})(\.[0-9a-f]{{64}})?")


def new_secret() -> str:
    """A string of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """The sha256 under which a secret of full entropy is kept."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Group(models.Model):
    """A set of devices that operators treat alike; it decides how often its devices report."""

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
    def make(cls, actor: str, **fields: Any) -> "Group":
        """Make a group. Raises `Conflict` (`group_exists`) if the name is taken."""
        with _unique_name(), transaction.atomic():
            group = cls.objects.create(**fields)
            record_event("group.made", f"Group {group} was made.", actor=actor, **fields)
        return group

    def edit(self, actor: str, **changes: Any) -> None:
        """Change `name`, `description` or `interval_seconds`. Raises `Conflict` as `make` does."""
        if not changes:
            return
        with _unique_name(), transaction.atomic():
            Group.objects.filter(pk=self.pk).update(**changes)
            record_event("group.edited", f"Group {self} was edited.", actor=actor, **changes)
        self.refresh_from_db()

    def remove(self, actor: str) -> None:
        """Delete the group and its ended tokens. Raises `Conflict` (`group_in_use`) while something belongs to it."""
        try:
            with transaction.atomic():
                EnrolmentToken.objects.ended().filter(group=self).delete()
                self.delete()
                record_event("group.removed", f"Group {self.name} was removed.", actor=actor)
        except IntegrityError:  # also what Django raises for protected rows
            raise Conflict("group_in_use", "Devices or usable enrolment tokens belong to this group.") from None


@contextmanager
def _unique_name() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise Conflict("group_exists", "There is a group of this name already.") from None


class EnrolmentTokenQuerySet(models.QuerySet["EnrolmentToken"]):
    def usable(self) -> "EnrolmentTokenQuerySet":
        """Neither revoked, expired nor used up."""
        return self.filter(revoked_at__isnull=True, expires_at__gt=Now(), uses__lt=F("uses_allowed"))

    def ended(self) -> "EnrolmentTokenQuerySet":
        return self.exclude(pk__in=self.usable())

    def for_secret(self, text: str) -> "EnrolmentTokenQuerySet":
        """The token that this string stands for, if any."""
        token = _TOKEN.fullmatch(text)
        return self.filter(secret_sha256=digest(token[1])) if token else self.none()

    def use_up(self, text: str) -> "EnrolmentToken | None":
        """Take one use of the token that this string stands for; None if it has none left to take.

        One conditional UPDATE, so that of many who ask for the last use one gets it. Call it inside the
        transaction that needs the use.
        """
        token = self.for_secret(text)
        if not token.usable().update(uses=F("uses") + 1):
            return None
        return token.select_related("group").get()


class EnrolmentToken(models.Model):
    """What an operator hands out so that devices may register. The secret is shown once; the row keeps its sha256."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100)
    secret_sha256 = models.CharField(max_length=64, unique=True, editable=False)
    group = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+")
    accepts_at_once = models.BooleanField(default=False)
    uses_allowed = models.PositiveIntegerField(default=1)
    uses = models.PositiveIntegerField(default=0, editable=False)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )

    objects = EnrolmentTokenQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(uses__lte=F("uses_allowed")), name="token_uses_within_allowance")
        ]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def issue(
        cls,
        *,
        name: str,
        group: Group,
        expires_at: datetime,
        uses_allowed: int = 1,
        accepts_at_once: bool = False,
        created_by: Any = None,
        actor: str,
    ) -> tuple["EnrolmentToken", str]:
        """Make a token. Returns the row and the string to hand out, which is nowhere kept in clear."""
        secret = new_secret()
        with transaction.atomic():
            token = cls.objects.create(
                name=name,
                group=group,
                secret_sha256=digest(secret),
                expires_at=expires_at,
                uses_allowed=uses_allowed,
                accepts_at_once=accepts_at_once,
                created_by=created_by,
            )
            record_event("token.issued", f"Enrolment token {name} for group {group}.", actor=actor, token=str(token.id))
        return token, secret

    def revoke(self, actor: str) -> bool:
        """End the token. False if somebody already did."""
        with transaction.atomic():
            unrevoked = EnrolmentToken.objects.filter(pk=self.pk, revoked_at__isnull=True)
            if not unrevoked.update(revoked_at=timezone.now()):
                return False
            record_event("token.revoked", f"Enrolment token {self.name} was revoked.", actor=actor, token=str(self.id))
            return True
