"""Terraform against the stand-in provider, in copies of terraform/ that tests may change."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import ROOT
from tests.terraform import provider, schema
from tests.terraform.places import Place, run
from tests.terraform.wheels import wheel
from tests.tools import need


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which terraform runs: no network, no account, the stand-in for the provider."""
    need("terraform")
    home = tmp_path_factory.mktemp("terraform")
    (home / "terraformrc").write_text("disable_checkpoint = true\n")
    with provider.serving(schema.read(wheel("cdktf-cdktf-provider-digitalocean"))) as found:
        yield {
            "PATH": os.environ["PATH"], "HOME": str(home), "TF_IN_AUTOMATION": "1", "TF_INPUT": "0",
            "TF_CLI_CONFIG_FILE": str(home / "terraformrc"), "CHECKPOINT_DISABLE": "1",
            "TF_VAR_secret_key": "s" * 60, "TF_VAR_metrics_token": "m" * 30, **found,
        }  # fmt: skip


@pytest.fixture(scope="session")
def initialised(standin: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """terraform/ after `init`, its state a file instead of a bucket."""
    folder = tmp_path_factory.mktemp("project") / "terraform"
    shutil.copytree(ROOT / "terraform", folder, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*", "*.tfvars"))
    (folder / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
    for environment in ("production", "staging"):
        shutil.copy(folder / f"{environment}.tfvars.example", folder / f"{environment}.tfvars")
    run(folder, standin, "init", "-no-color")
    return folder


@pytest.fixture
def place(initialised: Path, standin: dict[str, str], tmp_path: Path) -> Place:
    """A copy of one's own."""
    shutil.copytree(initialised, tmp_path / "terraform", symlinks=True)
    return Place(tmp_path / "terraform", standin)


@pytest.fixture(scope="session")
def planned(initialised: Path, standin: dict[str, str]) -> Callable[..., dict[str, dict[str, object]]]:
    """What a plan would make, by address; asked with the same words twice, planned once."""
    place = Place(initialised, standin)
    kept: dict[tuple[str, ...], dict[str, dict[str, object]]] = {}

    def planned(environment: str = "production", /, **variables: object) -> dict[str, dict[str, object]]:
        words = place.words(environment, variables)
        if words not in kept:
            kept[words] = place.plan(words)
        return kept[words]

    return planned
