"""What `make run` shows: a line a step, with a spinner while it runs and how long it took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape


class Screen:
    """Steps on a terminal; plain lines elsewhere."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, title: str) -> Iterator["Step"]:
        """Show that `title` is being done. The block may refine what is shown with `tell`, and set its `conclusion`."""
        step = Step(title)
        if self.console.is_terminal:
            with self.console.status(escape(title)) as status:
                step.tell = lambda text: status.update(f"{escape(title)} [dim]{escape(text)}[/]")
                yield step
        else:
            yield step
        conclusion = f"  [dim]{escape(step.conclusion)}[/]" if step.conclusion else ""
        self.console.print(f"[green]✓[/] {escape(title)}{conclusion}  [dim]{time.monotonic() - step.began:.1f} s[/]")

    def say(self, text: str = "") -> None:
        self.console.print(text)


class Step:
    """One step under way."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.began = time.monotonic()
        self.conclusion = ""
        self.tell = lambda text: None
