"""Run terraform in a folder and read its output."""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def terraform(folder: Path, environment: Mapping[str, str], *arguments: str, passes: bool = True) -> str:
    """Return the output of terraform. Fail unless it succeeds or, with `passes=False`, unless it fails."""
    done = subprocess.run(
        ["terraform", *arguments], cwd=folder, env=dict(environment), text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240,
    )  # fmt: skip
    assert (done.returncode == 0) is passes, f"terraform {' '.join(arguments)} exited {done.returncode}:\n{done.stdout}"
    return done.stdout


@dataclass
class Project:
    """A copy of terraform/ and the environment to run terraform in."""

    folder: Path
    environment: dict[str, str]

    def terraform(self, *arguments: str, passes: bool = True) -> str:
        return terraform(self.folder, self.environment, *arguments, passes=passes)

    def arguments(self, example: str, variables: Mapping[str, object]) -> tuple[str, ...]:
        """The arguments of a plan: the file of an example, and one with further variables."""
        text = json.dumps(variables, sort_keys=True)
        further = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.tfvars.json"
        further.write_text(text)
        return (f"-var-file={example}.tfvars", f"-var-file={further.name}")

    def plan(self, arguments: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """The planned content of each resource by address; outputs as `output.NAME`."""
        file = f"plan-{abs(hash(arguments))}"
        self.terraform("plan", "-no-color", f"-out={file}", *arguments)
        plan = json.loads(self.terraform("show", "-json", file))
        resources = {
            change["address"]: change["change"]["after"]
            for change in plan["resource_changes"]
            if change["mode"] == "managed" and change["change"]["after"] is not None
        }
        outputs = plan["planned_values"].get("outputs", {})
        return resources | {f"output.{name}": content.get("value") for name, content in outputs.items()}

    def refusal(self, example: str = "production", /, **variables: object) -> str:
        """The message of a plan that has to fail, on one line and without its frame."""
        return self._messages(example, variables, passes=False)

    def warnings(self, example: str = "production", /, **variables: object) -> str:
        """The output of a plan with its warnings, on one line and without their frames."""
        return self._messages(example, variables, passes=True)

    def _messages(self, example: str, variables: Mapping[str, object], *, passes: bool) -> str:
        output = self.terraform("plan", "-no-color", *self.arguments(example, variables), passes=passes)
        return " ".join(output.replace("│", " ").split())

    def change(self, file: str, old: str, new: str) -> None:
        """Replace the first `old` in a file."""
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) >= 1, f"{file} does not contain {old!r}"
        path.write_text(text.replace(old, new, 1))
