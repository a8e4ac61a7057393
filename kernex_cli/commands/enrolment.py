"""`token create`: lets new devices in."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter

from kernex_cli.arguments import Commands, Context, add_command, at_least_one, duration
from kernex_cli.errors import Exit

TEXT = """\
The token is shown once: the server keeps only its digest. Whoever has it may register devices until it expires or is
used up. Without --accept-at-once each device waits for `kernex approve`. On the device, give it to the standard input
of `kernex-agent enrol --server SERVER --token-file -`."""
EXAMPLES = """\
  kernex token create --group lab
  kernex token create --group lab --uses 50 --expires 2h --accept-at-once --name "shelf 4"
  kernex token create --group lab > token
"""


def add_to(commands: "Commands[ArgumentParser]") -> None:
    token = commands.add_parser(
        "token", help="make enrolment tokens for devices", description="Enrolment tokens let devices register.",
        formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    verbs = token.add_subparsers(title="commands", metavar="VERB", required=True)
    create = add_command(verbs, "create", create_token, "make an enrolment token", text=TEXT, examples=EXAMPLES)
    create.add_argument("--group", required=True, help="the group that the devices come into")
    create.add_argument("--name", help="what the token is for (default: the group's name)")
    create.add_argument("--uses", type=at_least_one, default=1, metavar="N", help="how many devices (default: 1)")
    create.add_argument("--expires", type=duration, default=86_400, metavar="TIME", help="valid how long (default: 1d)")
    create.add_argument("--accept-at-once", action="store_true", help="devices need no approval")


def create_token(context: Context) -> int:
    arguments = context.arguments
    body = {
        "name": arguments.name or arguments.group,
        "group": arguments.group,
        "uses_allowed": arguments.uses,
        "expires_in_seconds": arguments.expires,
        "accepts_at_once": arguments.accept_at_once,
    }
    made = context.client.post("/enrolment-tokens", body, once=True)
    context.screen.note(
        f"For {arguments.uses} device(s) in {arguments.group}; it is not shown again. There:"
        f" kernex-agent enrol --server {context.client.server} --token-file -"
    )
    context.screen.result(made, made["token"])
    return Exit.OK
