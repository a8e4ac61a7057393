"""How the rows of this room change their state."""

from django.db import models

REASON_LENGTH = 500


class Stateful(models.Model):
    """A row that goes from state to state. Who inherits says in `state` which there are."""

    state = models.CharField(max_length=16)
    state_reason = models.CharField(max_length=REASON_LENGTH, default="")

    class Meta:
        abstract = True

    def move_to(
        self, state: models.TextChoices, *, only_from: models.TextChoices, reason: str = "", **fields: object
    ) -> bool:
        """Change the state by one conditional UPDATE. False if the row was no longer in `only_from`."""
        changes = {"state": state, "state_reason": reason[:REASON_LENGTH], **fields}
        if not type(self)._default_manager.filter(pk=self.pk, state=only_from).update(**changes):
            return False
        for field, value in changes.items():
            setattr(self, field, value)
        return True
