"""What all stateful rows of this app share."""

from typing import Any

from django.db import models

from foundation.state_machine import StatefulModel

REASON_LENGTH = 500


class ExplainedModel(StatefulModel):
    """A row with the reason for its state. A transition without a reason clears the previous one."""

    state_reason = models.CharField(max_length=REASON_LENGTH, default="")

    class Meta:
        abstract = True

    @classmethod
    def stamps(cls, target: str) -> dict[str, Any]:
        return {"state_reason": ""}
