"""Progress bars for terminals."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from kernex_cli.formatting import clean


class ProgressBar:
    """The progress of one task. Without a progress display, its methods do nothing."""

    def __init__(self, progress: Progress | None = None, task: TaskID | None = None) -> None:
        self.progress = progress
        self.task = task

    def advance(self, amount: int) -> None:
        if self.progress is not None and self.task is not None:
            self.progress.advance(self.task, amount)

    def show(self, *, done: int | None = None, total: int | None = None, detail: str = "") -> None:
        """Set the amounts; None leaves an amount as it is."""
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done, total=total, detail=clean(detail))


@contextmanager
def progress_bar(console: Console, description: str, total: int | None, *, in_bytes: bool) -> Iterator[ProgressBar]:
    """Show a bar on a terminal while the block runs. Without a total, the bar is indeterminate."""
    amounts: list[ProgressColumn] = [MofNCompleteColumn()]
    if in_bytes:
        amounts = [DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn()]
    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), *(amounts if total else [])]
    columns += [TextColumn("{task.fields[detail]}", markup=False), TimeElapsedColumn()]
    with Progress(*columns, console=console) as progress:
        yield ProgressBar(progress, progress.add_task(clean(description), total=total, detail=""))
