"""The commands that change a deployment: `pause`, `resume`, `promote`, `rollback` and `cancel`."""

from typing import Any

from kernex_cli.arguments import EXAMPLE_ID, Commands, Context, Help, add_command, id_prefix
from kernex_cli.commands.deployments import ID_HELP
from kernex_cli.errors import Exit
from kernex_cli.lookup import find_deployment
from kernex_cli.parser import Parser
from kernex_cli.resources import Deployment
from kernex_cli.rollout_options import percentage

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
ROLLBACK = Help(
    "bring a deployment's devices back to what they ran before",
    """\
The rollback is a deployment, too. It includes the devices that run the bundle. Devices at work are asked to stop, and
return if they cannot.""",
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
    for parser in (cancel, pause, promote, resume, rollback):
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


def _control(context: Context, action: str, body: dict[str, Any] | None) -> int:
    deployment_id = find_deployment(context.client, context.arguments.deployment)
    document = context.client.post(f"/deployments/{deployment_id}/{action}", body)
    context.screen.result(document, f"Deployment {deployment_id} is {Deployment.parse(document).state}.")
    return Exit.OK


def cancel_deployment(context: Context) -> int:
    return _control(context, "cancel", None)
