"""The output of `kernex`: results on stdout; notes, progress bars and errors on stderr.

Colours, bars and fitted tables are for terminals. Otherwise a table is lines of tab-separated fields, which `cut` and
`awk` can read. Control characters in texts from devices are replaced, because they could control the terminal.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from kernex_cli.formatting import absolute_time, cell_text, clean, now, relative_time
from kernex_cli.progress import ProgressBar, progress_bar
from kernex_cli.tables import STYLES, Column, Table


class Screen:
    """The output of one command. With `as_json`, stdout gets exactly one JSON document.

    `verbose` shows full ids, absolute times and all columns.
    """

    def __init__(self, *, as_json: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.verbose = verbose
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr)

    @property
    def is_short(self) -> bool:
        """True if ids are short and times relative."""
        return self.out.is_terminal and not self.verbose

    def note(self, sentence: str, style: str = "dim") -> None:
        """Print a line for people to stderr."""
        self.err.print(Text(clean(sentence), style=style), soft_wrap=True)

    def error(self, sentence: str) -> None:
        """Print the reason for a failure to stderr."""
        first, *more = sentence.splitlines() or [""]
        self.err.print(Text.assemble(("kernex: ", "bold red"), clean(first)), soft_wrap=True)
        for line in more:
            self.err.print(Text(clean(line)), soft_wrap=True)

    def confirmed(self, question: str) -> bool:
        """Ask for confirmation on the terminal. Return False if there is none."""
        if not sys.stdin.isatty():
            return False
        self.err.print(Text(f"{clean(question)} [y/N] "), end="")
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    def result(self, document: object, *lines: str) -> None:
        """Print the result: `document` with `--json`, otherwise `lines`."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
            return
        for line in lines:
            self.out.print(Text(clean(line)), soft_wrap=True)

    def text(self, text: str) -> None:
        """Print multi-line text to stdout. On a terminal, control characters are replaced."""
        if self.out.is_terminal:
            text = "\n".join(clean(line.expandtabs()) for line in text.split("\n"))
        sys.stdout.write(text)

    def heading(self, text: str) -> None:
        """Print the heading of a section, after an empty line."""
        self.out.print()
        self.out.print(Text(text, style="bold"))

    def fields(self, values: Mapping[str, object]) -> None:
        """Print names and values; empty values are left out."""
        texts = {name: clean(cell_text(value)) for name, value in values.items()}
        width = max(map(len, texts), default=0) + 2
        for name, text in texts.items():
            if not self.out.is_terminal:
                sys.stdout.write(f"{clean(name)}\t{text}\n")
            elif text:
                line = Text.assemble((clean(name).ljust(width), "dim"), (text, STYLES.get(text, "")))
                self.out.print(line, soft_wrap=True)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
        """Print a table. Do not call this with `as_json`."""
        table = Table(columns, rows)
        if not self.out.is_terminal:
            sys.stdout.write("\n".join(table.tab_separated()) + "\n")
            return
        lines, omitted = table.lines(None if self.verbose else self.out.width)
        for line in lines:
            self.out.print(line, soft_wrap=True)
        if omitted:
            self.note(f"Columns that do not fit: {', '.join(omitted)}. Show them with -v.")

    def table_or(self, columns: Sequence[Column], rows: Sequence[Sequence[object]], sentence: str) -> None:
        """Print a table. On a terminal, print `sentence` instead if there are no rows."""
        if rows or not self.out.is_terminal:
            self.table(columns, rows)
        else:
            self.out.print(Text(sentence, style="dim"))

    def listing(self, document: list[object], columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
        """Print a list: `{"results": […]}` with `--json`, otherwise a table."""
        if self.as_json:
            self.result({"results": document})
        else:
            self.table(columns, rows)

    def streamed_listing(self, documents: Iterable[str]) -> None:
        """Print a list as `listing` does with `--json`, from JSON texts, each as soon as it arrives."""
        sys.stdout.write('{"results": [')
        for number, document in enumerate(documents):
            sys.stdout.write(f"{',' if number else ''}\n{document}")
        sys.stdout.write("\n]}\n")

    def time(self, moment: str | None) -> str:
        """Return a time of the API: relative on a terminal, otherwise absolute."""
        if not moment:
            return ""
        return relative_time(moment, now()) if self.is_short else absolute_time(moment)

    @contextmanager
    def bar(self, description: str, total: int | None = None, *, in_bytes: bool = False) -> Iterator[ProgressBar]:
        """Show progress on stderr while the block runs. Without a total, the bar is indeterminate."""
        if not self.err.is_terminal:
            self.note(f"{description} …")
            yield ProgressBar()
            return
        with progress_bar(self.err, description, total, in_bytes=in_bytes) as bar:
            yield bar


def _console(stream: object) -> Console:
    is_terminal = bool(getattr(stream, "isatty", lambda: False)())
    return Console(file=stream, force_terminal=is_terminal, highlight=False, markup=False, emoji=False)  # type: ignore[arg-type]
