"""Everything that `kernex` shows: results on stdout; steps, progress bars and errors on stderr.

Colours, bars and aligned tables are for terminals. Elsewhere a table is lines of tab-separated fields, so that `cut`
and `awk` can read it. Texts that came from devices are stripped of control characters: they must not steer a terminal.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
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
from rich.table import Table
from rich.text import Text

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
WHOLE = {"ID", "NAME", "BUNDLE"}
STYLES = {
    "succeeded": "green", "ready": "green", "accepted": "green", "online": "green", "yes": "green", "finished": "green",
    "failed": "red", "rolled_back": "red", "rejected": "red", "timed_out": "red", "withdrawn": "red",
    "pending": "yellow", "cancelled": "yellow", "verifying": "yellow", "running": "cyan",
}  # fmt: skip


class Bar:
    """One running step. On a terminal it moves; elsewhere it says nothing after its first line."""

    def __init__(self, progress: Progress | None, task: TaskID | None) -> None:
        self.progress = progress
        self.task = task

    def advance(self, amount: int) -> None:
        if self.progress is not None and self.task is not None:
            self.progress.advance(self.task, amount)

    def show(self, *, done: int | None = None, total: int | None = None, detail: str = "") -> None:
        """Set what is known anew; None leaves an amount as it is."""
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done, total=total, detail=clean(detail))


class Screen:
    """Where one command writes. With `as_json`, stdout gets one JSON document and nothing else."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr)

    def note(self, sentence: str, style: str = "dim") -> None:
        """A line for people, on stderr."""
        self.err.print(Text(clean(sentence), style=style), soft_wrap=True)

    def failed(self, sentence: str) -> None:
        self.err.print(Text.assemble(("kernex: ", "bold red"), clean(sentence)), soft_wrap=True)

    def agreed(self, question: str) -> bool:
        """Ask on the terminal; where there is none, nobody agreed."""
        if not sys.stdin.isatty():
            return False
        self.err.print(Text(f"{clean(question)} [y/N] "), end="")
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    def result(self, document: object, *lines: str) -> None:
        """The outcome: `document` for scripts, or `lines` for people."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
            return
        for line in lines:
            self.out.print(Text(clean(line)), soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Rows under their headings. Not for `as_json`."""
        if not self.out.is_terminal:
            for row in [columns, *rows]:
                sys.stdout.write("\t".join(clean(_shown(cell)) for cell in row) + "\n")
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            # What is copied into the next command stays in one piece, however narrow the terminal is.
            table.add_column(Text(column), overflow="fold", no_wrap=column in WHOLE)
        for row in rows:
            table.add_row(*(styled(_shown(cell)) for cell in row))
        self.out.print(table)

    def listing(self, document: list[object], columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A list, as `{"results": […]}` for scripts or as a table for people."""
        if self.as_json:
            self.result({"results": document})
        else:
            self.table(columns, rows)

    @contextmanager
    def bar(self, what: str, total: int | None = None, *, in_bytes: bool = False) -> Iterator[Bar]:
        """A progress bar while the block runs; `total` None means that the end is not known."""
        if not self.err.is_terminal:
            self.note(f"{what} …")
            yield Bar(None, None)
            return
        amounts: list[ProgressColumn] = [MofNCompleteColumn()]
        if in_bytes:
            amounts = [DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn()]
        columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), *(amounts if total else [])]
        columns += [TextColumn("{task.fields[detail]}", markup=False), TimeElapsedColumn()]
        with Progress(*columns, console=self.err) as progress:
            yield Bar(progress, progress.add_task(clean(what), total=total, detail=""))


def clean(text: str) -> str:
    """`text` with every character that could steer a terminal shown as a replacement character."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def styled(text: str) -> Text:
    return Text(clean(text), style=STYLES.get(text, ""))


def when(moment: object) -> str:
    """An ISO 8601 time of the API, to the second."""
    return str(moment).partition(".")[0].removesuffix("Z").replace("T", " ") + "Z" if moment else ""


def size(amount: object) -> str:
    """Bytes for people."""
    value = float(amount) if isinstance(amount, int | float) else 0.0
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def _shown(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, list):
        return ", ".join(map(str, cell))
    return str(cell)


def _console(stream: object) -> Console:
    is_terminal = bool(getattr(stream, "isatty", lambda: False)())
    # soft: only a terminal is asked for its width
    return Console(file=stream, force_terminal=is_terminal, highlight=False, markup=False, emoji=False)  # type: ignore[arg-type]
