"""Removal of a group together with its ended enrolment tokens."""

from django.db import IntegrityError, transaction

from devices.models import EnrolmentToken, Group
from foundation.errors import Conflict
from foundation.events.models import record_event


def remove_group(group: Group, actor: str) -> None:
    """Delete a group and its ended enrolment tokens.

    Raises:
        Conflict: `group_in_use`, while devices or usable enrolment tokens belong to the group.
    """
    try:
        with transaction.atomic():
            EnrolmentToken.objects.ended().filter(group=group).delete()
            group.delete()
            record_event("group.removed", f"Group {group.name} was removed.", actor=actor)
    except IntegrityError:  # Django's ProtectedError is a subclass of it
        raise Conflict("group_in_use", "Devices or usable enrolment tokens belong to this group.") from None
