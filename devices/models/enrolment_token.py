"""Enrolment tokens, which let new devices register."""

import hashlib
import re
import secrets
import uuid
from datetime import datetime

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from devices.models.group import IS_STATIC, Group
from foundation.events.models import record_event

PREFIX = "kxe_"
_TOKEN = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")


def new_secret() -> str:
    """Return a token string of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """Return the sha256 under which a token is stored. A secret of full entropy needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


class EnrolmentTokenQuerySet(models.QuerySet["EnrolmentToken"]):
    def usable(self) -> "EnrolmentTokenQuerySet":
        """Neither revoked, expired nor used up."""
        return self.filter(revoked_at__isnull=True, expires_at__gt=Now(), uses__lt=F("uses_allowed"))

    def ended(self) -> "EnrolmentTokenQuerySet":
        """Revoked, expired or used up."""
        return self.exclude(pk__in=self.usable())

    def for_secret(self, secret: str) -> "EnrolmentTokenQuerySet":
        """The token with this secret, if there is one."""
        return self.filter(secret_sha256=digest(secret)) if _TOKEN.fullmatch(secret) else self.none()

    def use_up(self, secret: str) -> "EnrolmentToken | None":
        """Use the token with this secret once. None if it is unknown or has no use left.

        One conditional UPDATE: if several requests race for the last use, one gets it. Call it inside the transaction
        that needs the use.
        """
        token = self.for_secret(secret)
        if not token.usable().update(uses=F("uses") + 1):
            return None
        return token.select_related("group").get()


class EnrolmentToken(models.Model):
    """What an operator hands out so that devices can register. The secret is shown once; the row keeps its sha256."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100)
    secret_sha256 = models.CharField(max_length=64, unique=True, editable=False)
    group = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+", limit_choices_to=IS_STATIC)
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
        created_by: AbstractBaseUser | None = None,
        actor: str,
    ) -> tuple["EnrolmentToken", str]:
        """Create a token. Return the row and the secret to hand out, which is never stored in plain text."""
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
            record_event(
                "token.issued",
                f"Enrolment token {name} for group {group} was issued.",
                actor=actor,
                token=str(token.id),
            )
        return token, secret

    def revoke(self, actor: str) -> bool:
        """Revoke the token. False if it was revoked before."""
        with transaction.atomic():
            unrevoked = EnrolmentToken.objects.filter(pk=self.pk, revoked_at__isnull=True)
            if not unrevoked.update(revoked_at=Now()):
                return False
            record_event("token.revoked", f"Enrolment token {self.name} was revoked.", actor=actor, token=str(self.id))
            return True
