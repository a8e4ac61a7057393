"""The files of terraform/: format, validity, their own tests, and no secrets."""

import re
import subprocess

from tests.live import ROOT
from tests.terraform.project import Project
from tests.tools import need


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "terraform"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.split()


def test_files_are_formatted() -> None:
    done = subprocess.run(
        [need("terraform"), "fmt", "-check", "-recursive", "-diff"],
        cwd=ROOT / "terraform", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_configuration_is_valid(project: Project) -> None:
    assert "The configuration is valid" in project.terraform("validate", "-no-color")


def test_every_variable_and_output_is_described() -> None:
    for path in (ROOT / "terraform").rglob("*.tf"):
        for kind, name, body in re.findall(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', path.read_text(), re.M | re.S):
            assert "description = " in body, f"{path.name}: {kind} {name}"


def test_every_variable_and_output_is_documented() -> None:
    document = (ROOT / "docs" / "infrastructure.md").read_text()
    named = set(re.findall(r"`(\w+)`", document))
    sources = [path.read_text() for path in (ROOT / "terraform").glob("*.tf")]
    declared = {name for text in sources for name in re.findall(r'^(?:variable|output) "(\w+)"', text, re.M)}
    assert len(declared) > 40
    assert declared - named == set()


def test_no_file_contains_a_secret_or_a_state() -> None:
    names = tracked()
    assert len(names) > 20
    assert [name for name in names if re.search(r"\.tfstate|\.tfvars$|\.tfplan$|kubeconfig", name)] == []
    looks_secret = re.compile(
        r"(AVNS_|dop_v1_|DO00|ghp_|kxa_|kxe_|AKIA)[A-Za-z0-9_-]{6,}|://\w+:(?!PASSWORD)[\w-]{4,}@"
    )
    assert [name for name in names if looks_secret.search((ROOT / name).read_text())] == []
    for path in (ROOT / "terraform").glob("*.tfvars.example"):
        text = path.read_text()
        assert not re.search(r"^\s*(secret|metrics_token|\w*password)\w*\s*=", text, re.M)


def test_resources_with_data_cannot_be_destroyed_by_mistake() -> None:
    kinds = {"digitalocean_database_cluster", "digitalocean_database_db", "digitalocean_spaces_bucket"}
    guarded = set()
    for path in (ROOT / "terraform" / "modules").rglob("*.tf"):
        for kind, name, body in re.findall(r'^resource "(\w+)" "(\w+)" \{\n(.*?)^\}', path.read_text(), re.M | re.S):
            if kind in kinds:
                assert "prevent_destroy = true" in body, f"{kind}.{name}"
                guarded.add(kind)
    assert guarded == kinds


def test_terraforms_own_tests_pass(project: Project) -> None:
    assert "6 passed, 0 failed" in project.terraform("test", "-no-color")
