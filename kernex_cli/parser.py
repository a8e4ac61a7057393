"""argparse, with suggestions for misspelt commands and options and one style of error message."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from kernex_cli.errors import Exit
from kernex_cli.suggestions import did_you_mean


class Parser(argparse.ArgumentParser):
    """The parser of `kernex` and of each of its commands."""

    def __init__(self, **options: Any) -> None:
        usual: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**(usual | options))

    def error(self, message: str) -> NoReturn:
        """Print one sentence to stderr and exit with code 2."""
        sentence = message if message.endswith(("?", ".")) else f"{message}."
        self.exit(Exit.USAGE, f"{self.prog}: {sentence}\nRun `{self.prog} --help` for help.\n")

    def parse_all(self, args: Sequence[str]) -> argparse.Namespace:
        """Parse a complete command line. An unknown argument is an error."""
        arguments, unknown = self.parse_known_args(args)
        if unknown:
            self._refuse_option(unknown[0])
        return argparse.Namespace(**vars(arguments))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse unknown options of a command before argparse complains about what is missing."""
        if args is not None and not self._has_commands():
            for argument in self._options_in(args):
                if argument not in self._option_string_actions:
                    self._refuse_option(argument)
        return super().parse_known_args(args, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = list(map(str, action.choices))
            if isinstance(action, argparse._SubParsersAction):
                self.error(f"`{value}` is not a command.{did_you_mean(str(value), choices)}")
            suggestion = did_you_mean(str(value), choices)
            raise argparse.ArgumentError(action, f"`{value}` is not one of {', '.join(choices)}.{suggestion}")
        super()._check_value(action, value)

    def _has_commands(self) -> bool:
        return any(isinstance(action, argparse._SubParsersAction) for action in self._actions)

    def _options_in(self, args: Sequence[str]) -> list[str]:
        before_separator = list(args)[: list(args).index("--")] if "--" in args else args
        options = [argument.partition("=")[0] for argument in before_separator if argument.startswith("--")]
        return [option for option in options if " " not in option]

    def _refuse_option(self, argument: str) -> NoReturn:
        if argument.startswith("-"):
            suggestion = did_you_mean(argument, self._option_string_actions)
            self.error(f"`{argument}` is not an option.{suggestion}")
        self.error(f"`{argument}` is one argument too many.")
