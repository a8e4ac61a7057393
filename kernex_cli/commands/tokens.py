"""`token create`."""

from kernex_cli.arguments import Commands, Context, Help, add_command, duration, positive_number
from kernex_cli.errors import Exit
from kernex_cli.formatting import counted
from kernex_cli.lookup import suggestions_for
from kernex_cli.parser import Parser

CREATE = Help(
    "create an enrolment token",
    "The token is printed once: the server keeps only its digest. Anyone who has it can register devices until it\n"
    "expires or is used up. Without --accept-at-once, each device waits for `kernex approve`. On the device, pass the\n"
    "token on standard input to `kernex-agent enrol --server SERVER --token-file -`.",
    "  kernex token create --group lab\n"
    '  kernex token create --group lab --uses 50 --expires 2h --accept-at-once --name "shelf 4"\n'
    "  kernex token create --group lab > token\n",
)


def add_to(commands: "Commands[Parser]") -> None:
    token = commands.add_parser(
        "token",
        help="create enrolment tokens for devices",
        description="Devices register with an enrolment token.",
        epilog=f"examples:\n{CREATE.examples.rstrip()}",
    )
    verbs = token.add_subparsers(title="commands", metavar="VERB", required=True)
    create = add_command(verbs, "create", create_token, CREATE)
    create.add_argument("--group", required=True, help="the group that the devices join")
    create.add_argument("--name", help="what the token is for (default: the group's name)")
    create.add_argument(
        "--uses", type=positive_number, default=1, metavar="N", help="how many devices may register (default: 1)"
    )
    create.add_argument(
        "--expires", type=duration, default=86_400, metavar="TIME", help="how long it is valid (default: 1d)"
    )
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
    with suggestions_for(context.client, groups=[arguments.group]):
        token = context.client.post("/enrolment-tokens", body, idempotent=False)
    context.screen.note(
        f"For {counted(arguments.uses, 'device')} in {arguments.group}. The token is not shown again. On the device: "
        f"kernex-agent enrol --server {context.client.server} --token-file -"
    )
    context.screen.result(token, token["token"])
    return Exit.OK
