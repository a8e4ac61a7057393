"""`deployments` and `deployment`."""

import time
from typing import Any

from kernex_cli.arguments import (
    EXAMPLE_ID,
    LONG_RETRY_SECONDS,
    Commands,
    Context,
    Help,
    add_command,
    add_timeout,
    id_prefix,
    positive_number,
)
from kernex_cli.deployment_resources import SUCCEEDED, UNSUCCESSFUL_STATES, Deployment, DeviceDeployment, Phase
from kernex_cli.errors import Exit, WaitFailed
from kernex_cli.formatting import counted
from kernex_cli.lookup import find_deployment
from kernex_cli.parser import Parser
from kernex_cli.screen import Screen
from kernex_cli.tables import Column, ColumnType

POLL_SECONDS = 1.0
SHOWN_FAILURES = 20
SHOWN_LINES = 3
LIST_COLUMNS = (
    Column("BUNDLE"),
    Column("ID", ColumnType.ID),
    Column("STATE", ColumnType.STATE),
    Column("DEVICES", ColumnType.TEXT),
    Column("CREATED", ColumnType.TIME),
    Column("NOTE", ColumnType.TEXT, rank=1),
)
DEVICE_COLUMNS = (
    Column("NAME"),
    Column("DEVICE", ColumnType.ID, rank=2),
    Column("STATE", ColumnType.STATE),
    Column("ATTEMPT", rank=4),
    Column("DONE", rank=3),
    Column("REASON", rank=1),
    Column("SINCE", ColumnType.TIME),
    Column("MESSAGE", ColumnType.TEXT),
)
LIST = Help("list deployments, newest first", examples="  kernex deployments\n  kernex deployments --limit 5 --json\n")
SHOW = Help(
    "show one deployment and its devices",
    "MESSAGE is what a device waits for or, after its end, the last line of its message; -v shows full messages.",
    f"  kernex deployment {EXAMPLE_ID}\n  kernex deployment {EXAMPLE_ID} --state failed -v\n"
    f"  kernex deployment {EXAMPLE_ID} --wait\n",
)
PHASE_COLUMNS = (
    Column("PHASE"),
    Column("STATE", ColumnType.STATE),
    Column("SIZE"),
    Column("ADMITTED"),
    Column("GOOD"),
    Column("BAD"),
    Column("LOST", rank=2),
    Column("EVICTED", rank=3),
    Column("SOAK ENDS", ColumnType.TIME, rank=1),
)
ID_HELP = "the deployment's id, or its first digits, from `kernex deployments`"


def add_to(commands: "Commands[Parser]") -> None:
    listing = add_command(commands, "deployments", show_deployments, LIST)
    listing.add_argument(
        "--limit", type=positive_number, default=20, metavar="N", help="only the first N (default: 20)"
    )
    show = add_command(commands, "deployment", show_deployment, SHOW, LONG_RETRY_SECONDS)
    show.add_argument("--state", help="only devices in this state, such as failed")
    show.add_argument("deployment", type=id_prefix, metavar="ID", help=ID_HELP)
    add_wait_options(show)


def add_wait_options(parser: Parser) -> None:
    parser.add_argument("--wait", action="store_true", help="wait until the deployment has ended on every device")
    parser.add_argument(
        "--no-observe", dest="observe", action="store_false", help="with --wait: do not wait for the observation"
    )
    add_timeout(parser, "the deployment to end")


def note_skipped(screen: Screen, deployment: Deployment) -> None:
    for reason, count in deployment.skipped.items():
        if count:
            screen.note(f"{counted(count, 'device')} left out: {reason.replace('_', ' ')}.", "yellow")


def wait_for_end(context: Context, deployment_id: str) -> dict[str, Any]:
    """Follow the deployment to its end, or until it is paused, and return it. Raises `WaitFailed` after --timeout.

    Without --no-observe, the end of a successful deployment is the end of its observation.
    """
    started_at = time.monotonic()
    timeout, is_observing = context.arguments.timeout, False
    with context.screen.bar("Deploying", 1) as bar:
        while True:
            document: dict[str, Any] = context.client.get(f"/deployments/{deployment_id}")
            deployment = Deployment.parse(document)
            bar.show(done=deployment.ended_count, total=deployment.device_count or 1, detail=deployment.summary)
            is_provisional = deployment.has_succeeded and deployment.observing > 0 and context.arguments.observe
            if (deployment.has_ended and not is_provisional) or deployment.is_paused:
                return document
            if deployment.has_ended and not is_observing:
                is_observing = True
                context.screen.note(
                    f"{deployment.summary}. Observing for up to {deployment.observation_seconds} s; "
                    "--no-observe skips this."
                )
            if timeout is not None and time.monotonic() - started_at > timeout:
                raise WaitFailed(
                    f"The deployment has not ended after {timeout} s ({deployment.summary}). It continues: "
                    f"kernex deployment {deployment_id} --wait"
                )
            time.sleep(POLL_SECONDS)


def show_end(context: Context, document: dict[str, Any]) -> int:
    """Show how a deployment ended, with the reasons of the devices that did not succeed."""
    deployment = Deployment.parse(document)
    note_skipped(context.screen, deployment)
    if deployment.has_succeeded:
        context.screen.result(document, f"{deployment.title}: {deployment.summary}.")
        return Exit.OK
    if deployment.is_paused:
        _show_pause(context, deployment)
    failures = _unsuccessful_devices(context, deployment)
    context.screen.result({**document, "unsuccessful": failures}, f"{deployment.title}: {deployment.summary}.")
    if not deployment.device_count and deployment.has_ended:
        reason = f" ({deployment.reason_code})" if deployment.reason_code else ""
        context.screen.note(f"No device was part of this deployment{reason}.", "red")
    for failure in map(DeviceDeployment.parse, failures):
        _note_failure(context.screen, failure)
    if deployment.is_paused:
        return Exit.PAUSED
    unsuccessful_count = deployment.device_count - deployment.counts.get(SUCCEEDED, 0)
    if unsuccessful_count > len(failures):
        context.screen.note(f"… and {unsuccessful_count - len(failures)} more: kernex deployment {deployment.id}")
    return Exit.WAIT_FAILED


def _show_pause(context: Context, deployment: Deployment) -> None:
    """Say why a deployment is paused, and which command continues it."""
    command = f"kernex resume {deployment.id}"
    advice = {
        "manual_gate": f"kernex promote {deployment.id}",
        "error_threshold": f"{command} --help",
        "success_missed": f"{command} --help",
    }.get(deployment.pause_reason, command)
    reason = deployment.pause_reason.replace("_", " ")
    context.screen.note(f"The deployment is paused ({reason}). Next: {advice}", "yellow")


def _unsuccessful_devices(context: Context, deployment: Deployment) -> list[Any]:
    """Return the first device deployments that did not succeed, at most 20."""
    failures: list[Any] = []
    for state in UNSUCCESSFUL_STATES:
        if deployment.counts.get(state) and len(failures) < SHOWN_FAILURES:
            failures += _devices(context, deployment.id, SHOWN_FAILURES - len(failures), state)
    return failures


def _note_failure(screen: Screen, failure: DeviceDeployment) -> None:
    """Show the end of a device's message: the last lines of a traceback or log say what went wrong."""
    reason = f" ({failure.reason})" if failure.reason else ""
    lines = failure.message_lines if screen.verbose else failure.message_lines[-SHOWN_LINES:]
    title = f"{failure.device_name or failure.device}: {failure.result.replace('_', ' ')}{reason}"
    if len(lines) == 1:
        screen.note(f"{title}: {lines[0].strip()}", "red")
        return
    screen.note(title, "red")
    for line in lines:
        screen.note(f"    {line}")


def _devices(context: Context, deployment_id: str, limit: int, state: str | None = None) -> list[Any]:
    filters = {"state": state} if state else {}
    return context.client.pages(f"/deployments/{deployment_id}/devices", filters, limit)


def show_deployments(context: Context) -> int:
    documents = context.client.pages("/deployments", {}, context.arguments.limit)
    rows = [
        (each.title, each.id, each.shown_state, each.summary, each.created_at, each.note)
        for each in map(Deployment.parse, documents)
    ]
    context.screen.listing(documents, LIST_COLUMNS, rows)
    return Exit.OK


def show_deployment(context: Context) -> int:
    arguments, screen = context.arguments, context.screen
    deployment_id = find_deployment(context.client, arguments.deployment)
    if arguments.wait:
        return show_end(context, wait_for_end(context, deployment_id))
    document = context.client.get(f"/deployments/{deployment_id}")
    documents = _devices(context, deployment_id, 0, arguments.state)
    if screen.as_json:
        screen.result({**document, "devices": documents})
        return Exit.OK
    deployment = Deployment.parse(document)
    screen.result(None, f"{deployment.title} is {deployment.shown_state}: {deployment.summary}.")
    if deployment.is_paused:
        _show_pause(context, deployment)
    if deployment.observing:
        screen.note(f"Observing {counted(deployment.observing, 'device')} that succeeded.")
    if len(deployment.phases) > 1:
        screen.table(PHASE_COLUMNS, [phase.cells for phase in map(Phase.parse, deployment.phases)])
    rows = list(map(DeviceDeployment.parse, documents))
    cells = [
        (
            row.device_name, row.device, row.result, row.attempt, row.progress, row.reason, row.state_changed_at,
            row.comment,
        )
        for row in rows
    ]  # fmt: skip
    screen.table(DEVICE_COLUMNS, cells)
    if screen.verbose:
        for row in rows:
            if len(row.message_lines) > 1:
                _note_failure(screen, row)
    return Exit.OK
