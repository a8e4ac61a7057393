"""The distribution `kernex-agent`: the package `agent` alone, and the systemd unit."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.tools import need

ROOT = Path(__file__).resolve().parent.parent.parent
UNIT = ROOT / "agent/kernex-agent.service"


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
        str(ROOT / "agent"),
    ]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return next(directory.glob("kernex_agent-*.whl"))


def test_the_wheel_contains_only_the_agent(wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert set(names) == {path.relative_to(ROOT).as_posix() for path in (ROOT / "agent").rglob("*.py")}


def test_the_wheel_requires_what_requirements_in_lists(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = next(archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    needed = {line.split()[1].partition(">")[0] for line in metadata.splitlines() if line.startswith("Requires-Dist")}
    lines = (ROOT / "agent/requirements.in").read_text().splitlines()
    assert needed == {line.split()[0] for line in lines if not line.startswith("#")}


def test_the_wheel_runs_on_its_own(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    command = [sys.executable, "-P", "-m", "agent", "--help"]
    shown = subprocess.run(
        command, cwd="/", env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert "exit codes" in shown.stdout


def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` exits with 0 for unknown keys, so its output is checked."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/kernex-agent/bin/kernex-agent", "/bin/true"))
    done = subprocess.run([need("systemd-analyze"), "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_is_confined() -> None:
    command = [need("systemd-analyze"), "security", "--offline=yes", "--threshold=25", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-600:]
