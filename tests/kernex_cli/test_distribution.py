"""The distribution `kernex` contains only the command line, which runs without the server's code."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import agent
import kernex
import kernex_cli

ROOT = Path(__file__).resolve().parent.parent.parent
SERVER_PARTS = (
    "django", "rest_framework", "psycopg", "kernex", "operations", "deployments", "devices", "bundles", "foundation",
    "agent", "tests",
)  # fmt: skip
BLOCK = f"""
import runpy, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {SERVER_PARTS}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
sys.argv = ["kernex", *sys.argv[1:]]
runpy.run_module("kernex_cli", run_name="__main__")
"""


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(cwd)!r})\n{BLOCK}", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--outdir",
        str(directory),
        str(ROOT / "kernex_cli"),
    ]
    build = subprocess.run(command, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr
    return next(directory.glob("kernex-*.whl"))


def test_the_wheel_contains_only_the_command_line(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert set(names) == {path.relative_to(ROOT).as_posix() for path in (ROOT / "kernex_cli").rglob("*.py")}


def test_all_parts_have_the_same_version() -> None:
    assert agent.__version__ == kernex.__version__ == kernex_cli.__version__


def test_the_wheel_needs_only_requests_and_rich(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    requirements = [
        line.split()[1].partition(">")[0] for line in metadata.splitlines() if line.startswith("Requires-Dist")
    ]
    assert sorted(requirements) == ["requests", "rich"]
    scripts = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("entry_points.txt"))
    assert "kernex = kernex_cli.main:main" in scripts


def test_the_wheel_runs_without_the_servers_code(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    completed = run("push", "--help", cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert "kernex.toml" in completed.stdout


@pytest.mark.parametrize("arguments", [("--help",), ("devices", "--server", "http://127.0.0.1:9", "--retry-for", "0s")])
def test_a_clone_runs_it_without_the_servers_code(arguments: tuple[str, ...]) -> None:
    completed = run(*arguments, cwd=ROOT)
    assert completed.returncode in {0, 3}, completed.stderr
    assert "ImportError" not in completed.stderr


LOADED = f"""
import runpy, sys
sys.argv = ["kernex", "--help"]
try:
    runpy.run_module("kernex_cli", run_name="__main__")
except SystemExit as end:
    assert not end.code
print(sorted(set({SERVER_PARTS}) & set(sys.modules)))
"""


def test_help_loads_no_django() -> None:
    completed = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert completed.stdout.splitlines()[-1] == "[]"
