"""The output on stdout and stderr, for a terminal and for a pipe."""

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernex_cli.conftest import Kernex
from tests.kernex_cli.fake_server import TOKEN, FakeServer

ESCAPE = "\x1b["
GROUPS = {
    "next": None,
    "results": [{"name": "lab\x1b]0;owned\x07", "interval_seconds": 2, "description": "[red]a[/red]"}],
}


def on_terminal(fake: FakeServer, *arguments: str, **variables: str) -> str:
    """Run `kernex` on a terminal and return its output."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "kernex_cli", *arguments],
        stdin=follower, stdout=follower, stderr=follower, close_fds=True,
        env={
            "PATH": os.environ["PATH"], "TERM": "xterm", "KERNEX_SERVER": fake.url, "KERNEX_TOKEN": TOKEN, **variables,
        },
    )  # fmt: skip
    os.close(follower)
    output = b""
    while select.select([leader], [], [], 20)[0]:
        try:
            output += os.read(leader, 65536)
        except OSError:  # on Linux, the other end is closed
            break
    os.close(leader)
    assert process.wait(20) == 0, output
    return output.decode()


def test_a_pipe_gets_plain_text(at_fake: Kernex, fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    fake.responses["GET /groups"] = GROUPS
    outcome = at_fake("groups")
    assert ESCAPE not in outcome.out + outcome.err
    header, row = "NAME\tHEARTBEAT SECONDS\tDESCRIPTION\tQUERY\n", "lab\ufffd]0;owned\ufffd\t2\t[red]a[/red]\t\n"
    assert outcome.out == header + row


def test_a_terminal_gets_colours(fake: FakeServer) -> None:
    fake.responses["GET /groups"] = GROUPS
    output = on_terminal(fake, "groups")
    assert ESCAPE + "1m" in output
    assert "\x1b]0;" not in output
    assert "[red]a[/red]" in output


DEVICE = {
    "id": "6f0c6a5e-9a53-4a6e-9d5c-0d1f3f0f9b7e", "name": "shelf-4-at-the-door", "state": "pending", "online": True,
    "health": "unhealthy", "group": "warehouse", "device_type": "edge", "last_heartbeat_at": "2026-01-02T03:04:05Z",
    "running_bundles": {"vad": {"version": "1.0.0", "healthy": True}, "speech": {"version": "2", "healthy": False}},
}  # fmt: skip


def lines(output: str) -> list[str]:
    return output.replace("\r", "").splitlines()


def test_a_table_fits_80_columns(fake: FakeServer) -> None:
    fake.responses["GET /devices"] = {"next": None, "results": [DEVICE]}
    shown = lines(on_terminal(fake, "devices", COLUMNS="80", NO_COLOR="1", TERM="dumb"))
    assert [len(line) for line in shown if len(line) > 80] == []
    assert shown[0].split() == ["NAME", "ID", "HEALTH", "RUNS", "LAST", "HEARTBEAT"]
    assert shown[1].startswith("shelf-4-at-the-door  6f0c6a5e  unhealthy  speech@2 (unhealthy) …  ")
    assert shown[1].endswith(" ago")
    assert shown[2] == "Columns that do not fit: STATE, LIVENESS, GROUP, TYPE. Show them with -v."


def test_verbose_shows_everything(fake: FakeServer) -> None:
    fake.responses["GET /devices"] = {"next": None, "results": [DEVICE]}
    for arguments in (["devices", "-v"], ["--verbose", "devices"]):
        row = lines(on_terminal(fake, *arguments, COLUMNS="80", NO_COLOR="1", TERM="dumb"))[1]
        for text in (DEVICE["id"], "warehouse", "edge", "speech@2 (unhealthy), vad@1.0.0", "2026-01-02 03:04:05Z"):
            assert str(text) in row


def test_short_ids_tell_devices_apart(fake: FakeServer) -> None:
    twin = {**DEVICE, "id": "6f0c6a5e-9a00-4a6e-9d5c-0d1f3f0f9b7e", "name": "b"}
    fake.responses["GET /devices"] = {"next": None, "results": [DEVICE, twin]}
    output = on_terminal(fake, "devices", COLUMNS="100")
    assert "6f0c6a5e-9a5 " in output
    assert "6f0c6a5e-9a0 " in output


def test_no_color_is_obeyed(fake: FakeServer) -> None:
    fake.responses["GET /devices"] = {
        "next": None, "results": [{"id": "1", "state": "accepted", "online": True, "name": "a"}],
    }  # fmt: skip
    assert ESCAPE + "32m" in on_terminal(fake, "devices")
    assert ESCAPE + "32m" not in on_terminal(fake, "devices", NO_COLOR="1")


def test_only_a_terminal_gets_progress_bars(at_fake: Kernex, fake: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(bytes(100_000))
    arguments = ["push", str(tmp_path / "tree"), "--name", "vad", "--version", "1"]
    assert "100%" in on_terminal(fake, *arguments).replace("97.7/97.7 KiB", "100%")
    outcome = at_fake(*arguments)
    assert ESCAPE not in outcome.err
    assert "Reading 1 file, 97.7 KiB" in outcome.err


def test_a_closed_pipe_ends_the_command_quietly(fake: FakeServer) -> None:
    rows = [{"name": f"group {number}" * 20} for number in range(5000)]
    fake.responses["GET /groups"] = {"next": None, "results": rows}
    process = subprocess.Popen(
        [sys.executable, "-m", "kernex_cli", "groups"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "KERNEX_SERVER": fake.url, "KERNEX_TOKEN": TOKEN},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(20) == 141


def test_an_interrupt_is_reported(at_fake: Kernex, fake: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("requests.Session.request", interrupt)
    outcome = at_fake("status", "--json")
    assert (outcome.code, outcome.out) == (130, "")
    assert "run the same command again" in outcome.err
