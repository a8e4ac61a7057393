"""The output of `make run`: one line for each step, with a spinner while it runs and its duration afterwards."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape


class Step:
    """A running step. `show_progress` replaces its progress text; `conclusion` is printed when it ends."""

    def __init__(self, title: str, show_progress: Callable[[str], None]) -> None:
        self.title = title
        self.started = time.monotonic()
        self.conclusion = ""
        self.show_progress = show_progress


class Terminal:
    """Steps with a spinner on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step while the block runs, and print its line afterwards."""
        if self.console.is_terminal:
            with self.console.status(escape(title)) as status:
                step = Step(title, lambda text: status.update(f"{escape(title)} [dim]{escape(text)}[/]"))
                yield step
        else:
            step = Step(title, lambda _: None)
            yield step
        conclusion = f"  [dim]{escape(step.conclusion)}[/]" if step.conclusion else ""
        seconds = time.monotonic() - step.started
        self.console.print(f"[green]✓[/] {escape(title)}{conclusion}  [dim]{seconds:.1f} s[/]")

    def print(self, text: str = "") -> None:
        """Print a line with rich's markup."""
        self.console.print(text)

    def print_error(self, text: str) -> None:
        """Print plain text in red."""
        self.console.print(f"\n{text}", style="red", markup=False)
