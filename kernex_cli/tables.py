"""Tables, fitted to the terminal. Without a terminal, they are lines of tab-separated fields.

On a terminal, ids are short and times relative. If a table is too wide, long texts are cut between words, then the
least important columns are left out. No cell spans two lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from rich.cells import cell_len
from rich.text import Text

from kernex_cli.formatting import (
    absolute_time,
    cell_text,
    clean,
    now,
    relative_time,
    short_id_length,
    shortened,
)

GAP = 2
SHORTEST_TEXT, SHORTEST_WORD = 16, 6
STYLES = {
    "succeeded": "green", "ready": "green", "accepted": "green", "online": "green", "yes": "green", "finished": "green",
    "healthy": "green", "done": "green", "complete": "green",
    "failed": "red", "failed late": "red", "rolled back": "red", "rejected": "red", "timed out": "red",
    "incomplete": "red", "withdrawn": "red", "offline": "red", "unhealthy": "red", "unknown command": "red",
    "expired": "red",
    "passed": "green", "tripped": "red", "paused": "yellow", "skipped": "yellow",
    "pending": "yellow", "cancelled": "yellow", "cancelling": "yellow", "verifying": "yellow",
    "restarting": "yellow", "running": "cyan", "planning": "cyan",
    "filling": "cyan", "settling": "cyan", "soaking": "cyan", "gate": "yellow",
}  # fmt: skip


class ColumnType(Enum):
    """The format of a column's values, and whether they may be cut."""

    WORD = "word"  # cut only as a last resort
    STATE = "state"  # `rolled_back` is written `rolled back`
    TEXT = "text"  # may be cut between words
    ID = "id"
    TIME = "time"


@dataclass(frozen=True)
class Column:
    """`rank` 0 is always shown; otherwise the column with the highest rank is left out first.

    A text keeps at least `shortest` characters as long as another column can be left out.
    """

    heading: str
    type: ColumnType = ColumnType.WORD
    rank: int = 0
    shortest: int = SHORTEST_TEXT


@dataclass(frozen=True)
class Table:
    """Rows of raw API values, and their columns."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[object]]

    def tab_separated(self) -> list[str]:
        """Return the lines for a pipe: full ids, absolute times, all columns."""
        lines = ["\t".join(column.heading for column in self.columns)]
        for row in self.rows:
            cells = [
                absolute_time(str(value)) if column.type is ColumnType.TIME and value else cell_text(value)
                for column, value in zip(self.columns, row, strict=True)
            ]
            lines.append("\t".join(map(clean, cells)))
        return lines

    def lines(self, width: int | None) -> tuple[list[Text], list[str]]:
        """Return the lines for a terminal, and the headings of the columns that do not fit.

        Without a width, nothing is cut or left out.
        """
        texts = [self._texts(number, is_short=width is not None) for number in range(len(self.columns))]
        natural = [max(map(cell_len, [column.heading, *texts[n]])) for n, column in enumerate(self.columns)]
        shown, widths = fitted(self.columns, natural, width)
        omitted = [column.heading for number, column in enumerate(self.columns) if number not in shown]
        heading = _line([(self.columns[number].heading, widths[number], "bold") for number in shown])
        body = [_line([_cell(texts[number][row], widths[number]) for number in shown]) for row in range(len(self.rows))]
        return [heading, *body], omitted

    def _texts(self, number: int, *, is_short: bool) -> list[str]:
        values = [row[number] for row in self.rows]
        column_type = self.columns[number].type
        if column_type is ColumnType.ID:
            length = short_id_length(str(value) for value in values if value) if is_short else 36
            return [cell_text(value)[:length] for value in values]
        if column_type is ColumnType.TIME:
            moment = now()
            return [
                "" if not value else relative_time(str(value), moment) if is_short else absolute_time(str(value))
                for value in values
            ]
        texts = [clean(cell_text(value)) for value in values]
        return [text.replace("_", " ") for text in texts] if column_type is ColumnType.STATE else texts


def fitted(columns: Sequence[Column], natural: Sequence[int], width: int | None) -> tuple[list[int], list[int]]:
    """Return the numbers of the columns that are shown, and the width of every column.

    1. If everything fits, show everything.
    2. Cut texts, down to their shortest widths.
    3. Leave out the column with the highest rank, and try again.
    4. If only columns of rank 0 are left, cut words as well.
    """
    shown = list(range(len(columns)))
    if width is None:
        return shown, list(natural)
    while True:
        available = width - GAP * (len(shown) - 1)
        widths = _cut(columns, natural, shown, available)
        optional = [number for number in shown if columns[number].rank]
        if sum(widths[number] for number in shown) <= available:
            return shown, widths
        if not optional:
            return shown, _cut(columns, widths, shown, available, shortest=SHORTEST_WORD)
        shown.remove(max(optional, key=lambda number: columns[number].rank))


def _cut(
    columns: Sequence[Column], widths: Sequence[int], shown: Sequence[int], available: int, *, shortest: int = 0
) -> list[int]:
    """Cut the widest columns first and return the widths.

    Without `shortest`, only texts are cut, none below its own shortest width; with it, words as well.
    """
    cut_widths = list(widths)
    excess = sum(widths[number] for number in shown) - available
    for number in sorted(shown, key=lambda number: -widths[number]):
        column = columns[number]
        if column.type is ColumnType.TEXT or (shortest and column.type is ColumnType.WORD):
            cut = max(min(excess, widths[number] - (shortest or column.shortest)), 0)
        else:
            cut = 0
        cut_widths[number] -= cut
        excess -= cut
    return cut_widths


def _cell(text: str, width: int) -> tuple[str, int, str]:
    return shortened(text, width), width, STYLES.get(text, "")


def _line(cells: Sequence[tuple[str, int, str]]) -> Text:
    line = Text()
    for number, (text, width, style) in enumerate(cells):
        line.append(text, style=style)
        if number + 1 < len(cells):
            line.append(" " * (width - cell_len(text) + GAP))
    line.rstrip()
    return line
