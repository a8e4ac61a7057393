"""Terraform with the fake provider, in copies of terraform/ that tests may change."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import ROOT
from tests.terraform import fake_provider, provider_schema
from tests.terraform.project import Project, terraform
from tests.terraform.wheels import wheel
from tests.tools import need

EXAMPLES = ("production", "staging", "seed")


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment for terraform: no network, no account, the fake provider."""
    need("terraform")
    home = tmp_path_factory.mktemp("terraform")
    (home / "terraformrc").write_text("disable_checkpoint = true\n")
    with fake_provider.serve(provider_schema.read(wheel("cdktf-cdktf-provider-digitalocean"))) as variables:
        yield {
            "PATH": os.environ["PATH"], "HOME": str(home), "TF_IN_AUTOMATION": "1", "TF_INPUT": "0",
            "TF_CLI_CONFIG_FILE": str(home / "terraformrc"), "CHECKPOINT_DISABLE": "1",
            "TF_VAR_secret_key": "s" * 60, "TF_VAR_metrics_token": "m" * 30, **variables,
        }  # fmt: skip


@pytest.fixture(scope="session")
def initialised(provider: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """terraform/ after `init`, with its state in a file instead of a bucket."""
    folder = tmp_path_factory.mktemp("project") / "terraform"
    shutil.copytree(ROOT / "terraform", folder, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*", "*.tfvars"))
    (folder / "backend_override.tf").write_text('terraform {\n  backend "local" {}\n}\n')
    for example in EXAMPLES:
        shutil.copy(folder / f"{example}.tfvars.example", folder / f"{example}.tfvars")
    terraform(folder, provider, "init", "-no-color")
    return folder


@pytest.fixture
def project(initialised: Path, provider: dict[str, str], tmp_path: Path) -> Project:
    """A copy for one test."""
    shutil.copytree(initialised, tmp_path / "terraform", symlinks=True)
    return Project(tmp_path / "terraform", provider)


@pytest.fixture(scope="session")
def planned(initialised: Path, provider: dict[str, str]) -> Callable[..., dict[str, dict[str, object]]]:
    """The resources of a plan by address. Equal arguments are planned once."""
    project = Project(initialised, provider)
    plans: dict[tuple[str, ...], dict[str, dict[str, object]]] = {}

    def planned(example: str = "production", /, **variables: object) -> dict[str, dict[str, object]]:
        arguments = project.arguments(example, variables)
        if arguments not in plans:
            plans[arguments] = project.plan(arguments)
        return plans[arguments]

    return planned
