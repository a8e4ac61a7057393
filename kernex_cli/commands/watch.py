"""`watch`."""

import time
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from kernex_cli.arguments import EXAMPLE_ID, Commands, Context, Help, add_command, id_prefix
from kernex_cli.commands.deployments import ID_HELP
from kernex_cli.deployment_resources import UNSUCCESSFUL_STATES, Deployment, Phase
from kernex_cli.errors import Exit
from kernex_cli.formatting import clean
from kernex_cli.lookup import find_deployment
from kernex_cli.parser import Parser
from kernex_cli.screen import Screen

POLL_SECONDS = 1.0
BAR_WIDTH = 30
WATCH = Help(
    "draw a deployment in the terminal while it runs",
    """\
Shows each phase with its devices, and what happens next, until the deployment has ended and its successes were
observed. Without a terminal, it prints a line for each change. The exit codes are those of `kernex deployment --wait`,
except that the command keeps watching a paused deployment. Ctrl-C stops only the watching.""",
    f"  kernex watch {EXAMPLE_ID}\n",
)
ENDED_STYLES = {"good": "green", "bad": "red", "lost": "yellow", "neutral": "dim"}
STYLES = {"passed": "green", "tripped": "red", "pending": "dim", "skipped": "dim"}


def add_to(commands: "Commands[Parser]") -> None:
    watch = add_command(commands, "watch", watch_deployment, WATCH)
    watch.add_argument("deployment", type=id_prefix, metavar="ID", help=ID_HELP)


def watch_deployment(context: Context) -> int:
    deployment_id = find_deployment(context.client, context.arguments.deployment)

    def load() -> tuple[dict[str, Any], Deployment]:
        document: dict[str, Any] = context.client.get(f"/deployments/{deployment_id}")
        return document, Deployment.parse(document)

    document, deployment = load()
    last_line = ""
    with _live(context.screen) as live:
        while True:
            if live is not None:
                live.update(Group(*drawing(deployment)), refresh=True)
            elif (line := summary_line(deployment)) != last_line:
                context.screen.note(line)
                last_line = line
            if deployment.has_ended and not (deployment.has_succeeded and deployment.observing):
                break
            time.sleep(POLL_SECONDS)
            document, deployment = load()
    context.screen.result(document, f"{deployment.title}: {deployment.summary}.")
    return Exit.OK if deployment.has_succeeded else Exit.WAIT_FAILED


class _NoLive:
    """Replaces the drawing if the output is not a terminal."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        return None


def _live(screen: Screen) -> Any:
    return Live(console=screen.err, transient=True, auto_refresh=False) if screen.err.is_terminal else _NoLive()


def summary_line(deployment: Deployment) -> str:
    """Return the state, the counts, and what happens next, in one line."""
    return " ".join(filter(None, [f"{deployment.shown_state}: {deployment.summary}.", deployment.next_step]))


def drawing(deployment: Deployment) -> list[Text]:
    """Return the lines of the drawing: a title, one line for each phase, and what happens next."""
    lines = [Text.assemble((clean(deployment.title), "bold"), f"  {deployment.shown_state}")]
    before = 0
    for phase in map(Phase.parse, deployment.phases):
        lines.append(_phase_line(phase, before))
        before = phase.device_count
    failed = sum(deployment.counts.get(state, 0) for state in UNSUCCESSFUL_STATES)
    if failed:
        lines.append(Text(f"{failed} did not succeed: kernex deployment {deployment.id}", style="red"))
    if deployment.has_ended and deployment.observing:
        lines.append(Text(f"Observing {deployment.observing} that succeeded.", style="dim"))
    elif deployment.next_step:
        lines.append(Text(clean(deployment.next_step), style="dim"))
    return lines


def _phase_line(phase: Phase, before: int) -> Text:
    """Return a bar of the phase's devices, those of earlier phases left out."""
    ended = {name: phase.counts.get(name, 0) for name in ENDED_STYLES}
    admitted = phase.counts.get("admitted", 0)
    size = max(phase.device_count - before, admitted, 1)
    shares = [(count, ENDED_STYLES[name]) for name, count in ended.items()]
    shares.append((admitted - sum(ended.values()), "blue"))
    bar, free = [], BAR_WIDTH
    for count, style in shares:
        cells = min(free, -(-BAR_WIDTH * max(count, 0) // size))
        bar.append(("█" * cells, style))
        free -= cells
    bar.append(("░" * free, "dim"))
    numbers = ", ".join(f"{count} {name}" for name, count in ended.items() if count)
    state = (phase.state, STYLES.get(phase.state, "cyan"))
    return Text.assemble(f"Phase {phase.number} ", *bar, f" {admitted} of {size}  ", state, f"  {numbers}")
