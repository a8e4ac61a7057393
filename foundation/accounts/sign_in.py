"""Sign-in to the admin: the form, and the events of sign-ins, failures and lock-outs."""

import logging
from typing import Any

from django.core.validators import MaxLengthValidator
from django.http import HttpRequest
from unfold.forms import AuthenticationForm

from foundation.api.client_address import client_address
from foundation.events.models import record_event
from foundation.rate_limits.models import seconds_to_wait

logger = logging.getLogger(__name__)

# Anyone can cause failed attempts, so the number of their events is limited. Each attempt has a line in the log.
FAILURE_EVENTS_PER_MINUTE = 20
USERNAME_LENGTH = 150


class SignInForm(AuthenticationForm):  # type: ignore[misc]
    """The sign-in form, which refuses names that are too long. Django enforces the length only in the browser."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].validators.append(MaxLengthValidator(USERNAME_LENGTH))


def record_sign_in(request: HttpRequest) -> None:
    """Record the outcome of a sign-in attempt, after Django and axes have handled it."""
    address = client_address(request)
    if request.user.is_authenticated:
        name = request.user.get_username()
        record_event("user.signed_in", f"{name} signed in.", actor=f"operator:{name}", client_address=address)
        return
    name = request.POST.get("username", "").replace("\0", "")[:USERNAME_LENGTH]
    is_locked_out = bool(getattr(request, "axes_locked_out", False))
    logger.warning("sign-in as %r from %s %s", name, address, "is locked out" if is_locked_out else "failed")
    if seconds_to_wait("events:sign-in-failures", FAILURE_EVENTS_PER_MINUTE):
        return
    if is_locked_out:
        kind, message = "user.locked_out", f"Signing in as {name} from {address} is locked after too many attempts."
    else:
        kind, message = "user.sign_in_failed", f"Signing in as {name} from {address} failed."
    record_event(kind, message, actor="anonymous", username=name, client_address=address)


def record_own_password(request: HttpRequest) -> None:
    """Record that a signed-in person changed their own password."""
    name = request.user.get_username()
    record_event(
        "user.changed",
        f"User {name} was changed (password).",
        actor=f"operator:{name}",
        object=name,
        object_id=request.user.pk,
        changes={"password": "set"},
    )
