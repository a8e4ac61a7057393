"""Times, sizes and texts for people, and how tables are fitted."""

from datetime import UTC, datetime

import pytest

from kernex_cli.formatting import duration_text, relative_time, short_id_length, shortened, size_text
from kernex_cli.tables import Column, ColumnType, fitted

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        ("2026-03-01T11:59:48.5Z", "11 s ago"),
        ("2026-03-01T11:57:00Z", "3 min ago"),
        ("2026-03-01T07:00:00Z", "5 h ago"),
        ("2026-02-20T12:00:00Z", "9 days ago"),
        ("2025-03-01T12:00:00Z", "12 months ago"),
        ("2026-03-01T14:30:00Z", "in 2 h"),
        ("soon", "soonZ"),
    ],
)
def test_a_time_is_relative(moment: str, text: str) -> None:
    assert relative_time(moment, NOW) == text


@pytest.mark.parametrize(("amount", "text"), [(0, "0 B"), (1023, "1023 B"), (2_400_000, "2.3 MiB"), (2**41, "2.0 TiB")])
def test_a_size_has_a_unit(amount: int, text: str) -> None:
    assert size_text(amount) == text


def test_a_short_id_is_as_long_as_it_must_be() -> None:
    assert short_id_length([]) == 8
    assert short_id_length(["6f0c6a5e-1", "6f0c6a5e-2", "6f0c6a5e-2"]) == 10


@pytest.mark.parametrize(
    ("text", "width", "cut"),
    [
        ("a few words", 11, "a few words"),
        ("a few words", 9, "a few …"),
        ("one, two", 6, "one …"),
        ("unbroken", 5, "unbr…"),
    ],
)
def test_a_text_is_cut_between_words(text: str, width: int, cut: str) -> None:
    assert shortened(text, width) == cut


COLUMNS = (Column("NAME"), Column("TYPE", rank=2), Column("GROUP", rank=1), Column("NOTE", ColumnType.TEXT))


@pytest.mark.parametrize(
    ("width", "shown", "widths"),
    [
        (None, [0, 1, 2, 3], [10, 8, 8, 40]),
        (72, [0, 1, 2, 3], [10, 8, 8, 40]),
        (48, [0, 1, 2, 3], [10, 8, 8, 16]),
        (47, [0, 2, 3], [10, 8, 8, 25]),
        (30, [0, 3], [10, 8, 8, 18]),
        (20, [0, 3], [10, 8, 8, 8]),
        (14, [0, 3], [6, 8, 8, 6]),
    ],
)
def test_a_table_loses_columns_before_words(width: int | None, shown: list[int], widths: list[int]) -> None:
    assert fitted(COLUMNS, [10, 8, 8, 40], width) == (shown, widths)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (40, "40 s"), (600, "10 min"), (5400, "1 h 30 min"), (180_001, "2 d 2 h 1 s")]
)
def test_durations_are_exact(seconds: int, text: str) -> None:
    assert duration_text(seconds) == text
