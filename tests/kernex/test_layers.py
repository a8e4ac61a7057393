"""The layers of the code base: each module belongs to one layer or is listed as an exception."""

import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LAYERS = ["kernex", "operations", "deployments", "devices | bundles", "foundation"]
APART = {"kernex_cli", "agent", "dev"}
# Nothing imports these: the demonstration's bundle, the tests, the entry points of gunicorn and Django.
SCRIPTS = {"demo", "tests", "manage.py", "gunicorn.conf.py"}


def contracts() -> dict[str, dict[str, object]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return {"roots": settings["root_packages"], **{contract["name"]: contract for contract in settings["contracts"]}}


def modules() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.split()


def test_the_control_plane_has_five_layers() -> None:
    (layers,) = [contract["layers"] for name, contract in contracts().items() if name.startswith("The control plane")]
    assert layers == LAYERS


def test_every_module_is_on_a_layer_or_a_listed_exception() -> None:
    packages = {name for layer in LAYERS for name in layer.split(" | ")} | APART
    unassigned = [path for path in modules() if path.split("/")[0] not in packages | SCRIPTS]
    assert not unassigned, "Put these modules on a layer; see docs/architecture.md."
    assert set(contracts()["roots"]) == packages


def test_readme_and_architecture_have_a_row_for_each_package() -> None:
    tops = {path.split("/")[0] for path in modules() if "/" in path} - {"tests"}
    for page in ("README.md", "docs/architecture.md"):
        text = (ROOT / page).read_text()
        assert not {name for name in tops if f"| `{name}/` |" not in text}, page
