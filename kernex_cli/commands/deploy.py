"""`deploy`."""

from typing import Any

from kernex_cli.arguments import (
    LONG_RETRY_SECONDS,
    Commands,
    Context,
    Help,
    add_command,
    bundle_label,
    duration,
)
from kernex_cli.commands.deployment_preview import show_preview
from kernex_cli.commands.deployments import add_wait_options, note_skipped, show_end, wait_for_end
from kernex_cli.commands.devices import DEVICE_HELP
from kernex_cli.deployment_resources import Deployment
from kernex_cli.errors import BadUsage, Exit
from kernex_cli.lookup import find_device, suggestions_for
from kernex_cli.parser import Parser
from kernex_cli.rollout_options import add_rollout_options, rollout_fields

DEPLOY = Help(
    "deploy a bundle to devices",
    """\
Each device downloads the bundle, installs it and checks its health. If it is not healthy, the device rolls back to the
previous release. With --wait, the command shows progress until the deployment has ended on every device and the
successes were observed: a device that turns unhealthy or rolls back in the observation time has failed late. A
deployment counts as failed if it had no devices or any device did not succeed: the exit code is then 6. Ctrl-C stops
only the waiting, not the deployment. If the deployment is paused, the command says why and exits with code 8.""",
    """\
  kernex deploy vad@1.0.0 --group lab --wait
  kernex deploy vad@1.0.0 --group lab --wait --no-observe
  kernex deploy vad@1.0.0 --query 'runs.vad < 1.0 and attr.board = r5' --exclude 'tag = canary'
  kernex deploy vad@1.0.0 --group lab --group field --deadline 2h
  kernex deploy vad@1.0.0 --device shelf-4 --device 6f0c6a5e
  kernex deploy vad@1.0.0 --group field --phases 1%,25%,100% --soak 30m --wait
  kernex deploy vad@1.0.0 --file rollout.toml --preview
""",
)
# The fields of a rollout file that select devices.
SELECTIONS = {"groups", "devices", "query"}


def add_to(commands: "Commands[Parser]") -> None:
    deploy = add_command(commands, "deploy", start, DEPLOY, LONG_RETRY_SECONDS)
    deploy.add_argument("bundle", type=bundle_label, metavar="NAME@VERSION", help="a bundle that is ready")
    deploy.add_argument("--group", action="append", default=[], help="all accepted devices of a group (repeatable)")
    deploy.add_argument("--device", action="append", default=[], help=f"{DEVICE_HELP} (repeatable)")
    deploy.add_argument("--query", default="", help="all accepted devices that match; see `kernex devices --help`")
    deploy.add_argument("--exclude", default="", metavar="QUERY", help="without the devices that match")
    add_rollout_options(deploy)
    deploy.add_argument("--deadline", type=duration, metavar="TIME", help="how long each device may take")
    deploy.add_argument(
        "--observation", type=duration, metavar="TIME", help="how long each success is observed (default: 10m)"
    )
    deploy.add_argument(
        "--unhealthy",
        type=duration,
        metavar="TIME",
        help="how long the bundle may be unhealthy during the observation (default: 1m)",
    )
    deploy.add_argument("--note", default="", help="the reason, shown with the deployment")
    deploy.add_argument("--preview", action="store_true", help="show what would happen, and deploy nothing")
    add_wait_options(deploy)


def start(context: Context) -> int:
    arguments, client = context.arguments, context.client
    fields = rollout_fields(arguments)
    if not arguments.group and not arguments.device and not arguments.query and not fields.keys() & SELECTIONS:
        raise BadUsage("No devices given: choose them with --group, --device or --query.")
    body: dict[str, Any] = {"bundle": arguments.bundle, "groups": [], "devices": [], "note": "", **fields}
    if arguments.group:
        body["groups"] = arguments.group
    if arguments.device:
        body["devices"] = [find_device(client, device) for device in arguments.device]
    if arguments.canary:
        body["canaries"] = [find_device(client, device) for device in arguments.canary]
    body |= {name: text for name in ("note", "query", "exclude") if (text := getattr(arguments, name))}
    with suggestions_for(client, groups=arguments.group, bundle=arguments.bundle):
        if arguments.preview:
            return show_preview(context, body)
        document = client.post("/deployments", body, idempotent=False)
    deployment = Deployment.parse(document)
    if arguments.wait:
        context.screen.note(f"Deployment {deployment.id}")
        return show_end(context, wait_for_end(context, deployment.id))
    note_skipped(context.screen, deployment)
    context.screen.result(
        document,
        f"Deployment {deployment.id} of {deployment.bundle} has started.",
        f"Next: kernex deployment {deployment.id} --wait",
    )
    return Exit.OK
