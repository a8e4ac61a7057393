"""The primitive for every change of state: a table of allowed transitions, and one conditional UPDATE.

The row count of that UPDATE decides a race.

Each stateful model has a `TextChoices` of its states with a `Transitions` table beside it, and a drawing in the
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

    upload.transition_to(UploadState.VERIFYING)    # True: this call moved it. False: it cannot move there now.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, Self, TypeVar

from django.db import models
from django.db.models import Q

M = TypeVar("M", bound=models.Model)


class UnknownTransition(Exception):
    """The code asked for a move that the model's table does not have: a defect, never the fault of a request."""


class Transitions:
    """Which states may follow which. Every state is a key; a final state has no targets."""

    def __init__(self, moves: Mapping[Any, Collection[Any]]) -> None:
        self.moves = {str(source): frozenset(map(str, targets)) for source, targets in moves.items()}
        unknown = {target for targets in self.moves.values() for target in targets} - self.moves.keys()
        if unknown:
            raise UnknownTransition(f"Moves lead to states without a row of their own: {', '.join(sorted(unknown))}.")

    def allows(self, source: str, target: str) -> bool:
        return str(target) in self.moves[str(source)]

    def is_final(self, state: str) -> bool:
        return not self.moves[str(state)]

    def sources_of(self, target: str, among: Iterable[str] | None = None) -> tuple[str, ...]:
        """The states from which `target` may be reached, optionally only those among some.

        Raises `UnknownTransition` if there is none, or if the table does not allow one of those that are named.
        """
        sources = {source for source, targets in self.moves.items() if str(target) in targets}
        wanted = sources if among is None else {str(source) for source in among}
        if not wanted or not wanted <= sources:
            impossible = ", ".join(sorted(wanted - sources)) or "any state"
            raise UnknownTransition(f"There is no move to {target} from {impossible}.")
        return tuple(source for source in self.moves if source in wanted)


class StatefulQuerySet(models.QuerySet[M]):
    def in_states(self, *states: str) -> Self:
        return self.filter(state__in=states)

    def transition_to(self, target: str, *, only_from: Iterable[str] | None = None, **fields: Any) -> int:
        """Move those of these rows that may go to `target` now, by one conditional UPDATE. Returns how many moved.

        Choose the rows by their own columns alone. A join would become a subquery, which PostgreSQL does not evaluate
        again when another process changed the row first. Raises `UnknownTransition` for a move that is not in the
        table.
        """
        transitions: Transitions = self.model.transitions  # type: ignore[attr-defined]
        sources = transitions.sources_of(target, among=only_from)
        changes = {"state": target, **self.model.stamps(target), **fields}  # type: ignore[attr-defined]
        return self.in_states(*sources).update(**changes)


class StatefulModel(models.Model):
    """A row with a `state`. Subclasses declare the column with their choices, and the table of moves."""

    transitions: ClassVar[Transitions]

    class Meta:
        abstract = True

    @classmethod
    def stamps(cls, target: str) -> dict[str, Any]:
        """Return the columns that always change with a move to `target`, such as the time of the end."""
        return {}

    def transition_to(self, target: str, *, only_from: Iterable[str] | None = None, **fields: Any) -> bool:
        """Move this row to `target`, by one conditional UPDATE. False if it cannot go there from its present state.

        On success the object has the new values; otherwise it is unchanged, and `refresh_from_db` tells what won.
        """
        changes = {**type(self).stamps(target), **fields}
        rows: Any = type(self)._default_manager.filter(Q(pk=self.pk))
        if not rows.transition_to(target, only_from=only_from, **changes):
            return False
        for name, value in {"state": target, **changes}.items():
            setattr(self, name, value)
        return True
