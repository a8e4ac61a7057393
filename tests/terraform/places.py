"""A folder in which terraform is run, and what it says there."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def run(folder: Path, environment: Mapping[str, str], *words: str, passes: bool = True) -> str:
    """What terraform says; fails unless it exits as expected."""
    done = subprocess.run(
        ["terraform", *words], cwd=folder, env=dict(environment), text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240,
    )  # fmt: skip
    assert (done.returncode == 0) is passes, f"terraform {' '.join(words)} exited {done.returncode}:\n{done.stdout}"
    return done.stdout


@dataclass
class Place:
    folder: Path
    environment: dict[str, str]

    def run(self, *words: str, passes: bool = True) -> str:
        return run(self.folder, self.environment, *words, passes=passes)

    def words(self, environment: str, variables: Mapping[str, object]) -> tuple[str, ...]:
        """The variables of a plan as arguments."""
        chosen = [f"-var={name}={_written(content)}" for name, content in sorted(variables.items())]
        return (f"-var-file={environment}.tfvars", *chosen)

    def plan(self, words: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """The planned content of each resource by address; outputs under `output.NAME`."""
        file = f"plan-{abs(hash(words))}"
        self.run("plan", "-no-color", f"-out={file}", *words)
        told = json.loads(self.run("show", "-json", file))
        found = {
            change["address"]: change["change"]["after"]
            for change in told["resource_changes"]
            if change["mode"] == "managed" and change["change"]["after"] is not None
        }
        outputs = told["planned_values"].get("outputs", {})
        return found | {f"output.{name}": content.get("value") for name, content in outputs.items()}

    def refused(self, environment: str = "production", /, **variables: object) -> str:
        """What a plan that must fail says, its lines joined and its frame taken off."""
        said = self.run("plan", "-no-color", *self.words(environment, variables), passes=False)
        return " ".join(said.replace("│", " ").split())

    def change(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) >= 1, f"{file} does not say {old!r}"
        path.write_text(text.replace(old, new, 1))


def _written(content: object) -> str:
    return content if isinstance(content, str) else json.dumps(content)
