"""The parser: help, suggestions, and global options before the command."""

import pytest

from tests.kernex_cli.conftest import Kernex
from tests.kernex_cli.fake_server import TOKEN, FakeServer

STATUS = {"devices": {"online": 3}, "deployments": {}, "bundles": {}, "version": "0.1.0"}


def test_without_a_command_it_prints_a_short_help(kernex: Kernex) -> None:
    outcome = kernex()
    assert (outcome.code, outcome.out) == (2, "")
    assert [line.split()[1] for line in outcome.err.splitlines() if line.startswith("  kernex ")] == [
        "login", "push", "deploy", "devices", "device",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (("statsu",), "Did you mean `status`?"),
        (("devices", "--onlin"), "Did you mean `--online`?"),
        (("devices", "--state", "acepted"), "Did you mean `accepted`?"),
        (("--jsn", "devices"), "Did you mean `--json`?"),
        (("token", "creat", "--group", "lab"), "Did you mean `create`?"),
        (("push", "--nmae", "vad"), "Did you mean `--name`?"),
    ],
)
def test_it_suggests_what_was_meant(kernex: Kernex, arguments: tuple[str, ...], suggestion: str) -> None:
    outcome = kernex(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert suggestion in outcome.err


@pytest.mark.parametrize(
    "arguments", [("status", "extra"), ("xyzzy",), ("devices", "--xyzzy"), ("push", "--name", "--x y")]
)
def test_it_suggests_nothing_that_is_not_similar(kernex: Kernex, arguments: tuple[str, ...]) -> None:
    outcome = kernex(*arguments)
    assert outcome.code == 2
    assert "Did you mean" not in outcome.err


def test_global_options_may_come_first(kernex: Kernex, fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNEX_TOKEN", TOKEN)
    fake.responses["GET /status"] = STATUS
    assert kernex("--server", fake.url, "--json", "status").document == STATUS
    assert kernex("--server", fake.url, "--retry-for", "0s", "status", "--json").document == STATUS
    assert kernex("--server", "http://127.0.0.1:9", "status", "--server", fake.url, "--json").document == STATUS


def test_retrying_can_be_switched_off_before_the_command(
    at_fake: Kernex, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.fail("GET", (503, {}))
    assert at_fake("--retry-for", "0s", "status").code == 5
    assert len(fake.requests) == 1
