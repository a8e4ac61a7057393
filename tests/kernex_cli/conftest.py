"""Fixtures: a control plane, a fake server, and a function that runs `kernex` in this process."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kernex_cli.main import main
from tests.kernex_cli.fake_server import TOKEN, FakeServer, serve
from tests.live import Live, live

__all__ = ["live"]


@dataclass
class Outcome:
    """The exit code and output of one command."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """stdout, parsed as one JSON document."""
        return json.loads(self.out)


Kernex = Callable[..., Outcome]


@pytest.fixture
def kernex(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Kernex:
    """Return a function that runs one command line without credentials and without a terminal."""
    for name in ("KERNEX_SERVER", "KERNEX_TOKEN", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def at_live(kernex: Kernex, live: Live, monkeypatch: pytest.MonkeyPatch) -> Kernex:
    """`kernex` with an API token for the live control plane."""
    monkeypatch.setenv("KERNEX_SERVER", live.url)
    monkeypatch.setenv("KERNEX_TOKEN", live.token)
    return kernex


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with serve() as server:
        yield server


@pytest.fixture
def at_fake(kernex: Kernex, fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Kernex:
    """`kernex` with an API token for the fake server."""
    monkeypatch.setenv("KERNEX_SERVER", fake.url)
    monkeypatch.setenv("KERNEX_TOKEN", TOKEN)
    return kernex
