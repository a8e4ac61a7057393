"""`kernex push` against a real control plane."""

from pathlib import Path

from tests.cli.conftest import Kernex
from tests.live import Live


def make_tree(directory: Path) -> Path:
    (directory / "model").mkdir(parents=True)
    (directory / "model" / "vad.onnx").write_bytes(b"weights" * 1000)
    (directory / "runner.py").write_text("print('hello')\n")
    (directory / "empty").touch()
    (directory / "prepare").write_text("#!/bin/sh\n")
    (directory / "prepare").chmod(0o755)
    (directory / "kernex.toml").write_text('device_types = ["edge"]\nrun = { command = ["python3", "runner.py"] }\n')
    return directory


def test_it_makes_a_ready_bundle(at_live: Kernex, live: Live, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    pushed = at_live("push", tree, "--name", "first", "--version", "1.0.0", "--json", "--timeout", "20s")
    assert pushed.code == 0, pushed.err
