"""The primitive for every change of state: a table of allowed transitions, and one conditional UPDATE.

The row count of that UPDATE decides a race.

Each stateful model has a `TextChoices` of its states with a `Transitions` table next to it, and a drawing in the
docstring of their module. Nothing else writes a state column; a test looks for other writers.

    class UploadState(models.TextChoices):
        ...

    UPLOAD_TRANSITIONS = Transitions({
        UploadState.OPEN: {UploadState.VERIFYING, UploadState.EXPIRED},
        ...
    })

    class Upload(StatefulModel):
        transitions = UPLOAD_TRANSITIONS
        objects = UploadQuerySet.as_manager()      # a StatefulQuerySet

    upload.transition_to(UploadState.VERIFYING)    # True: this call changed it. False: its state does not allow it.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, Self, TypeVar

from django.db import models
from django.db.models import Q

M = TypeVar("M", bound=models.Model)


class UnknownTransition(Exception):
    """The model's table does not have the requested transition: a bug in the code, not in a request."""


class Transitions:
    """Which states may follow which. Every state is a key; a final state has no targets."""

    def __init__(self, table: Mapping[Any, Collection[Any]]) -> None:
        self.targets = {str(source): frozenset(map(str, targets)) for source, targets in table.items()}
        unknown = {target for targets in self.targets.values() for target in targets} - self.targets.keys()
        if unknown:
            raise UnknownTransition(f"These target states are not keys of the table: {', '.join(sorted(unknown))}.")

    def allows(self, source: str, target: str) -> bool:
        return str(target) in self.targets[str(source)]

    def is_final(self, state: str) -> bool:
        return not self.targets[str(state)]

    def sources_of(self, target: str, among: Iterable[str] | None = None) -> tuple[str, ...]:
        """Return the states from which `target` can be reached, optionally only those in `among`.

        Raises `UnknownTransition` if there are none, or if the table does not allow one of `among`.
        """
        sources = {source for source, targets in self.targets.items() if str(target) in targets}
        wanted = sources if among is None else {str(source) for source in among}
        if not wanted or not wanted <= sources:
            impossible = ", ".join(sorted(wanted - sources)) or "any state"
            raise UnknownTransition(f"There is no transition to {target} from {impossible}.")
        return tuple(source for source in self.targets if source in wanted)


class StatefulQuerySet(models.QuerySet[M]):
    def in_states(self, *states: str) -> Self:
        return self.filter(state__in=states)

    def transition_to(self, target: str, *, only_from: Iterable[str] | None = None, **fields: Any) -> int:
        """Change the rows that may go to `target` now, by one conditional UPDATE. Return how many changed.

        Filter the rows by their own columns only. A join would become a subquery, which PostgreSQL does not evaluate
        again when another process changed the row first. Raises `UnknownTransition` for a transition that is not in
        the table.
        """
        transitions: Transitions = self.model.transitions  # type: ignore[attr-defined]
        sources = transitions.sources_of(target, among=only_from)
        changes = {"state": target, **self.model.stamps(target), **fields}  # type: ignore[attr-defined]
        return self.in_states(*sources).update(**changes)


class StatefulModel(models.Model):
    """A row with a `state`. Subclasses declare the column with their choices, and the table of transitions."""

    transitions: ClassVar[Transitions]

    class Meta:
        abstract = True

    @classmethod
    def stamps(cls, target: str) -> dict[str, Any]:
        """Return the columns that always change together with a transition to `target`, such as the end time."""
        return {}

    def transition_to(self, target: str, *, only_from: Iterable[str] | None = None, **fields: Any) -> bool:
        """Change this row's state to `target`, by one conditional UPDATE. Return False if its state does not allow it.

        On success the object has the new values; otherwise it is unchanged, and `refresh_from_db` loads the new state.
        """
        changes = {**type(self).stamps(target), **fields}
        rows: Any = type(self)._default_manager.filter(Q(pk=self.pk))
        if not rows.transition_to(target, only_from=only_from, **changes):
            return False
        for name, value in {"state": target, **changes}.items():
            setattr(self, name, value)
        return True
