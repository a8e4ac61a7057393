"""`deploy`, `deployments`, `deployment` and `cancel`."""

import time
from argparse import ArgumentParser
from typing import Any

from kernex_cli.arguments import (
    EXAMPLE_ID,
    LONG_PATIENCE_SECONDS,
    Commands,
    Context,
    add_command,
    at_least_one,
    duration,
    identifier,
    label,
)
from kernex_cli.commands.devices import find_device
from kernex_cli.errors import BadUsage, Exit, WaitFailed
from kernex_cli.screen import when

POLL_SECONDS = 1.0
SUCCEEDED = "succeeded"
FINISHED = (SUCCEEDED, "failed", "rolled_back", "rejected", "timed_out", "cancelled")
SHOWN_FAILURES = 20
DEPLOY = """\
Each device fetches the bundle, installs it, checks its health, and keeps or restores what ran before. --wait follows
until every device has said its last word; the exit code is 6 unless all of them succeeded. An interrupt ends only the
waiting, not the deployment."""
DEPLOY_EXAMPLES = """\
  kernex deploy vad@1.0.0 --group lab --wait
  kernex deploy vad@1.0.0 --group lab --group field --deadline 2h
  kernex deploy vad@1.0.0 --device 6f0c6a5e-9a53-4a6e-9d5c-0d1f3f0f9b7e --device shelf-4
"""


def add_to(commands: "Commands[ArgumentParser]") -> None:
    deploy = add_command(
        commands, "deploy", start, "put a bundle on devices",
        text=DEPLOY, examples=DEPLOY_EXAMPLES, patience=LONG_PATIENCE_SECONDS,
    )  # fmt: skip
    deploy.add_argument("bundle", type=label, metavar="NAME@VERSION", help="a bundle that is ready")
    deploy.add_argument("--group", action="append", default=[], help="all accepted devices of a group; may be repeated")
    deploy.add_argument("--device", action="append", default=[], help="one device, by id or name; may be repeated")
    deploy.add_argument("--deadline", type=duration, metavar="TIME", help="how long one device may take")
    deploy.add_argument("--note", default="", help="why; shown with the deployment")
    _add_waiting(deploy)
    listing = add_command(
        commands, "deployments", show_deployments, "list deployments, newest first",
        examples="  kernex deployments\n  kernex deployments --limit 5 --json\n",
    )  # fmt: skip
    listing.add_argument("--limit", type=at_least_one, default=20, metavar="N", help="only the first N (default: 20)")
    one = add_command(
        commands, "deployment", show_deployment, "show one deployment and its devices",
        examples=f"  kernex deployment {EXAMPLE_ID}\n  kernex deployment {EXAMPLE_ID} --wait\n",
        patience=LONG_PATIENCE_SECONDS,
    )  # fmt: skip
    one.add_argument("deployment", type=identifier, metavar="ID", help="the id that `kernex deployments` shows")
    one.add_argument("--state", help="only devices in this state, such as failed")
    _add_waiting(one)
    cancel = add_command(
        commands, "cancel", cancel_deployment, "cancel a deployment",
        text="Devices that already changed something finish or roll back; the others stay as they are.",
        examples=f"  kernex cancel {EXAMPLE_ID}\n",
    )  # fmt: skip
    cancel.add_argument("deployment", type=identifier, metavar="ID", help="the id that `kernex deployments` shows")


def _add_waiting(parser: ArgumentParser) -> None:
    parser.add_argument("--wait", action="store_true", help="wait until every device has ended")
    parser.add_argument(
        "--timeout", type=duration, metavar="TIME", help="how long to wait for that (default: without end)"
    )


def start(context: Context) -> int:
    arguments = context.arguments
    if not arguments.group and not arguments.device:
        raise BadUsage("Deploy to whom? Name devices with --group or --device.")
    body: dict[str, Any] = {
        "bundle": arguments.bundle,
        "groups": arguments.group,
        "devices": [find_device(context.client, device) for device in arguments.device],
        "note": arguments.note,
    }
    if arguments.deadline is not None:
        body["deadline_seconds"] = arguments.deadline
    deployment = context.client.post("/deployments", body, once=True)
    for why, count in deployment.get("skipped", {}).items():
        if count:
            context.screen.note(f"{count} chosen devices were left out: {why.replace('_', ' ')}.", "yellow")
    if arguments.wait:
        context.screen.note(f"Deployment {deployment['id']}")
        return _end(context, _wait(context, deployment["id"]))
    context.screen.result(
        deployment,
        f"Deployment {deployment['id']} of {deployment['bundle']} has begun.",
        f"Next: kernex deployment {deployment['id']} --wait",
    )
    return Exit.OK


def _wait(context: Context, deployment_id: str) -> dict[str, Any]:
    """Follow the deployment to its end. Raises `WaitFailed` if that takes longer than --timeout."""
    began = time.monotonic()
    timeout = context.arguments.timeout
    with context.screen.bar("Deploying", 1) as bar:
        while True:
            deployment: dict[str, Any] = context.client.get(f"/deployments/{deployment_id}")
            counts = deployment["counts"]
            ended = sum(counts.get(state, 0) for state in FINISHED)
            bar.show(done=ended, total=sum(counts.values()), detail=_counted(counts))
            if deployment["state"] != "running" and ended == sum(counts.values()):
                return deployment
            if timeout is not None and time.monotonic() - began > timeout:
                raise WaitFailed(
                    f"The deployment is not finished after {timeout} s ({_counted(counts)}). It goes on without you: "
                    f"kernex deployment {deployment_id} --wait"
                )
            time.sleep(POLL_SECONDS)


def _end(context: Context, deployment: dict[str, Any]) -> int:
    """Show how it ended; failed devices with their reasons."""
    counts = deployment["counts"]
    good = counts.get(SUCCEEDED, 0) == sum(counts.values())
    context.screen.result(deployment, f"{deployment['bundle']}: {_counted(counts)}.")
    if not good:
        rows = _devices(context, deployment["id"], limit=0)
        bad = [row for row in rows if row["state"] != SUCCEEDED]
        for row in bad[:SHOWN_FAILURES]:
            context.screen.note(_sentence(row), "red")
        if len(bad) > SHOWN_FAILURES:
            context.screen.note(f"… and {len(bad) - SHOWN_FAILURES} more: kernex deployment {deployment['id']}")
    return Exit.OK if good else Exit.WAIT_FAILED


def _sentence(row: dict[str, Any]) -> str:
    reason = f" ({row['reason_code']})" if row.get("reason_code") else ""
    lines = [line.strip() for line in (row.get("message") or "").splitlines() if line.strip()]
    said = " … ".join(dict.fromkeys([*lines[:1], *lines[-1:]]))  # the last line of a traceback is what it is about
    return f"{row.get('device_name') or row['device']}: {row['state']}{reason}{': ' if said else ''}{said}"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in counts.items() if count) or "no devices"


def _devices(context: Context, deployment_id: str, limit: int, state: str | None = None) -> list[Any]:
    filters = {"state": state} if state else {}
    return context.client.pages(f"/deployments/{deployment_id}/devices", filters, limit)


def show_deployments(context: Context) -> int:
    deployments = context.client.pages("/deployments", {}, context.arguments.limit)
    rows = [
        (
            one["id"],
            one["bundle"],
            one["state"],
            _counted(one.get("counts", {})),
            when(one["created_at"]),
            one.get("note"),
        )
        for one in deployments
    ]
    context.screen.listing(deployments, ("ID", "BUNDLE", "STATE", "DEVICES", "CREATED", "NOTE"), rows)
    return Exit.OK


def show_deployment(context: Context) -> int:
    arguments = context.arguments
    if arguments.wait:
        return _end(context, _wait(context, arguments.deployment))
    deployment = context.client.get(f"/deployments/{arguments.deployment}")
    rows = _devices(context, arguments.deployment, 0, arguments.state)
    if context.screen.as_json:
        context.screen.result({**deployment, "devices": rows})
        return Exit.OK
    context.screen.result(None, f"{deployment['bundle']} is {deployment['state']}: {_counted(deployment['counts'])}.")
    columns = ("DEVICE", "NAME", "STATE", "ATTEMPT", "DONE", "REASON", "SINCE")
    cells = [
        (
            row["device"], row.get("device_name"), row["state"], row.get("attempt"), _done(row),
            row.get("reason_code"), when(row.get("state_changed_at")),
        )
        for row in rows
    ]  # fmt: skip
    context.screen.table(columns, cells)
    return Exit.OK


def _done(row: dict[str, Any]) -> str:
    total = row.get("bytes_total") or 0
    return f"{100 * (row.get('bytes_done') or 0) // total} %" if total else ""


def cancel_deployment(context: Context) -> int:
    deployment = context.client.post(f"/deployments/{context.arguments.deployment}/cancel")
    context.screen.result(deployment, f"Deployment {deployment['id']} is {deployment['state']}.")
    return Exit.OK
