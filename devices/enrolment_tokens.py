"""Enrolment tokens as rows: which are usable, and which one a string stands for."""

import hashlib
import re
import secrets
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import F
from django.db.models.functions import Now

if TYPE_CHECKING:
    from devices.models import EnrolmentToken

PREFIX = "kxe_"
# What may follow the dot is the fingerprint of the trust root, for the agent's eyes only.
_TOKEN = re.compile(rf"({PREFIX}[A-Za-z0-9_-]{{43}})(\.[0-9a-f]{{64}})?")


def new_secret() -> str:
    """A string of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """The sha256 under which a secret of full entropy is kept."""
    return hashlib.sha256(secret.encode()).hexdigest()


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
