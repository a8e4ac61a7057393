"""The progress of long commands: a bar on a terminal, nothing elsewhere."""

import io

from foundation.progress_bar import tracker


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_counts_on_a_terminal_and_erases_itself() -> None:
    screen = Terminal()
    assert list(tracker(screen)("abcd", "blobs", 4)) == ["a", "b", "c", "d"]
    assert "1 of 4" in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")


def test_it_writes_nothing_without_a_terminal_or_without_items() -> None:
    screen, terminal = io.StringIO(), Terminal()
    assert list(tracker(screen)("abcd", "blobs", 4)) == ["a", "b", "c", "d"]
    assert list(tracker(terminal)("", "blobs", 0)) == []
    assert screen.getvalue() == terminal.getvalue() == ""
