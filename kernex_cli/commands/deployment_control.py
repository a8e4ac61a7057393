"""The commands that control a deployment, from `pause` to `cancel`."""

from typing import Any

from kernex_cli.arguments import EXAMPLE_ID, Commands, Context, Help, add_command, id_prefix
from kernex_cli.commands.deployments import ID_HELP
from kernex_cli.deployment_resources import Deployment
from kernex_cli.errors import BadUsage, Exit
from kernex_cli.lookup import find_deployment
from kernex_cli.parser import Parser
from kernex_cli.rollout_options import add_adjustable_options, adjustable_fields, percentage

LIMITS = ("max_in_flight", "max_in_flight_per_tag", "min_available_percent", "devices_per_minute", "max_bad")

CANCEL = Help(
    "cancel a deployment",
    "Devices that have already started to install finish or roll back. The others keep what they run.",
    f"  kernex cancel {EXAMPLE_ID}\n",
)
PAUSE = Help(
    "pause a deployment",
    "Nothing more is offered. Devices that have accepted an offer finish.",
    f"  kernex pause {EXAMPLE_ID}\n",
)
RESUME = Help(
    "continue a paused deployment",
    """\
If a phase tripped, say what changes: raise a threshold, accept the failures so far, or skip the phase; and why.""",
    f"  kernex resume {EXAMPLE_ID}\n"
    f"  kernex resume {EXAMPLE_ID} --accept-failures --reason 'two boards with a known defect'\n"
    f"  kernex resume {EXAMPLE_ID} --errors 20 --reason 'the lab has bad power today'\n",
)
PROMOTE = Help(
    "let the next phase begin",
    "The current phase waits at its gate, soaks, or waits for results.",
    f"  kernex promote {EXAMPLE_ID}\n",
)
ADJUST = Help(
    "change the times, limits, priority or attempts of a deployment",
    "The deployment must not have ended. --no-limits removes the limits that are not given as options.",
    f"  kernex adjust {EXAMPLE_ID} --expires 3d --reason 'the site is offline until Friday'\n"
    f"  kernex adjust {EXAMPLE_ID} --in-flight 50 --in-flight-per site:=2\n",
)
RETRY = Help(
    "deploy again to the devices that failed",
    """\
The retry is a new deployment with the same phases, thresholds and limits. It includes the devices that failed, even
if they failed late. With --reason-code, it includes only those that failed for this reason.""",
    f"  kernex retry {EXAMPLE_ID}\n  kernex retry {EXAMPLE_ID} --reason-code no_space --reason-code download_failed\n",
)
REPEAT = Help(
    "start a deployment again with the same definition",
    "Groups and queries are evaluated again, so devices that joined since are included.",
    f"  kernex repeat {EXAMPLE_ID}\n",
)
ROLLBACK = Help(
    "return a deployment's devices to what they ran before",
    """\
The rollback is also a deployment. It includes the devices that run the bundle. Devices at work are asked to stop; those
that no longer can are rolled back as well.""",
    f"  kernex rollback {EXAMPLE_ID} --reason 'drops frames at night'\n",
)


def add_to(commands: "Commands[Parser]") -> None:
    cancel = add_command(commands, "cancel", cancel_deployment, CANCEL)
    pause = add_command(commands, "pause", pause_deployment, PAUSE)
    promote = add_command(commands, "promote", promote_deployment, PROMOTE)
    resume = add_command(commands, "resume", resume_deployment, RESUME)
    resume.add_argument("--reason", default="", help="why; required after a trip")
    resume.add_argument("--errors", type=percentage, metavar="PERCENT", help="a new error threshold for the phase")
    resume.add_argument("--success", type=percentage, metavar="PERCENT", help="a new success threshold for the phase")
    resume.add_argument("--accept-failures", action="store_true", help="the failures so far no longer count")
    resume.add_argument("--skip-phase", action="store_true", help="begin the next phase")
    rollback = add_command(commands, "rollback", roll_back_deployment, ROLLBACK)
    rollback.add_argument("--reason", default="", help="why, for other operators")
    adjust = add_command(commands, "adjust", adjust_deployment, ADJUST)
    add_adjustable_options(adjust)
    adjust.add_argument("--no-limits", action="store_true", help="remove all limits except the given ones")
    adjust.add_argument("--never-expires", action="store_true", help="remove the time after which nothing is offered")
    adjust.add_argument("--reason", default="", help="why, for other operators")
    retry = add_command(commands, "retry", retry_deployment, RETRY)
    retry.add_argument(
        "--reason-code", action="append", default=[], metavar="CODE", help="only devices that failed for this reason"
    )
    repeat = add_command(commands, "repeat", repeat_deployment, REPEAT)
    for parser in (cancel, pause, promote, resume, adjust, retry, repeat, rollback):
        parser.add_argument("deployment", type=id_prefix, metavar="ID", help=ID_HELP)


def pause_deployment(context: Context) -> int:
    return _control(context, "pause", {})


def promote_deployment(context: Context) -> int:
    return _control(context, "promote", {})


def resume_deployment(context: Context) -> int:
    arguments = context.arguments
    body: dict[str, Any] = {}
    if arguments.reason:
        body["reason"] = arguments.reason
    if arguments.errors is not None:
        body["error_threshold_percent"] = arguments.errors
    if arguments.success is not None:
        body["success_threshold_percent"] = arguments.success
    body |= {name: True for name in ("accept_failures", "skip_phase") if getattr(arguments, name)}
    return _control(context, "resume", body)


def roll_back_deployment(context: Context) -> int:
    deployment_id = find_deployment(context.client, context.arguments.deployment)
    body = {"reason": context.arguments.reason} if context.arguments.reason else {}
    document = context.client.post(f"/deployments/{deployment_id}/roll-back", body)
    rollback = Deployment.parse(document)
    context.screen.result(
        document,
        f"The rollback {rollback.id} has started.",
        f"Next: kernex deployment {rollback.id} --wait",
    )
    return Exit.OK


def adjust_deployment(context: Context) -> int:
    arguments = context.arguments
    body: dict[str, Any] = dict.fromkeys(LIMITS) | {"limit_tag": ""} if arguments.no_limits else {}
    if arguments.never_expires:
        body["expires_at"] = None
    body |= adjustable_fields(arguments)
    if not body:
        raise BadUsage("Nothing to change: give at least one option, such as --expires 3d.")
    if arguments.reason:
        body["reason"] = arguments.reason
    deployment_id = find_deployment(context.client, arguments.deployment)
    document = context.client.call("PATCH", f"/deployments/{deployment_id}", json=body)
    context.screen.result(document, f"Deployment {deployment_id} was changed.")
    return Exit.OK


def retry_deployment(context: Context) -> int:
    reason_codes = context.arguments.reason_code
    return _start(context, "retry", {"reason_codes": reason_codes} if reason_codes else {})


def repeat_deployment(context: Context) -> int:
    return _start(context, "repeat", None)


def _start(context: Context, action: str, body: dict[str, Any] | None) -> int:
    """Start a deployment that follows from another one."""
    deployment_id = find_deployment(context.client, context.arguments.deployment)
    document = context.client.post(f"/deployments/{deployment_id}/{action}", body)
    started = Deployment.parse(document)
    context.screen.result(
        document,
        f"Deployment {started.id} of {started.bundle} has started.",
        f"Next: kernex deployment {started.id} --wait",
    )
    return Exit.OK


def _control(context: Context, action: str, body: dict[str, Any] | None) -> int:
    deployment_id = find_deployment(context.client, context.arguments.deployment)
    document = context.client.post(f"/deployments/{deployment_id}/{action}", body)
    context.screen.result(document, f"Deployment {deployment_id} is {Deployment.parse(document).state}.")
    return Exit.OK


def cancel_deployment(context: Context) -> int:
    return _control(context, "cancel", None)
