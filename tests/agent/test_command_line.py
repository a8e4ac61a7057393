"""The command line as a real process: what it says, and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TOKEN = "kxe_" + "s3cret" * 7
NOBODY = "http://127.0.0.1:9"


def agent(*words: str, given: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *words],
        cwd=ROOT, env={"PATH": os.environ["PATH"], **variables}, input=given,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def ends(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """It ended with this code and one sentence that holds these words."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert [word for word in words if word not in last] == []


@pytest.mark.parametrize("command", ["enrol", "run", "once", "status", "rollback"])
def test_help_teaches(command: str) -> None:
    shown = agent(command, "--help")
    assert shown.returncode == 0
    assert "--state-dir" in shown.stdout
    assert "(default:" in shown.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run",), "server"),
        (("run", "--server", "ftp://x"), "server"),
        (("run", "--server", "http://fleet.example.com"), "insecure_http"),
        (("run", "--server", "https://fleet.example.com/path"), "server"),
        (("run", "--server", NOBODY, "--disk-margin", "-1"), "disk_margin"),
        (("run", "--server", NOBODY, "--log-level", "loud"), "log_level"),
        (("run", "--server", NOBODY, "--device-type", "Edge Device"), "device_type"),
        (("run", "--config", "/nowhere/agent.toml"), "/nowhere/agent.toml"),
        (("enrol", "--server", NOBODY, "--token-file", "/nowhere/token"), "/nowhere/token"),
    ],
)
def test_a_wrong_option_is_named(words: tuple[str, ...], told: str, tmp_path: Path) -> None:
    ends(agent(*words, "--state-dir", str(tmp_path / "s")), 2, told)


def test_who_is_not_enrolled_is_not_told_to_wait(tmp_path: Path) -> None:
    done = agent("run", "--server", NOBODY, "--state-dir", str(tmp_path / "s"))
    ends(done, 3, "token")
    assert "Trying again" not in done.stderr


def test_an_unknown_option_in_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('srever = "https://fleet.example.com"\n')
    ends(agent("run", "--config", str(file)), 2, "srever")


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(f'state_dir = "{tmp_path / "file"}"\nlog_format = "json"\n')
    shown = [
        json.loads(agent("status", "--json", "--config", str(file), *words, **variables).stdout)["state_dir"]
        for words, variables in (
            ((), {}),
            ((), {"KERNEX_AGENT_STATE_DIR": str(tmp_path / "variable")}),
            (("--state-dir", str(tmp_path / "word")), {"KERNEX_AGENT_STATE_DIR": str(tmp_path / "variable")}),
        )
    ]
    assert [Path(path).name for path in shown] == ["file", "variable", "word"]


def test_a_token_on_the_command_line_is_refused_and_not_repeated() -> None:
    done = agent("enrol", "--server", NOBODY, "--token", TOKEN)
    ends(done, 2, "unrecognized")
    assert "s3cret" not in done.stderr + done.stdout


def test_without_a_token_it_says_what_is_needed(tmp_path: Path) -> None:
    ends(agent("enrol", "--server", NOBODY, "--state-dir", str(tmp_path / "s")), 3, "token")


def test_a_token_that_is_none_is_refused_without_being_repeated(tmp_path: Path) -> None:
    done = agent(
        "enrol", "--server", NOBODY, "--state-dir", str(tmp_path / "s"), "--token-file", "-", given="s3cret word\n"
    )
    ends(done, 2, "kxe_")
    assert "s3cret" not in done.stderr


def test_no_server_is_6(tmp_path: Path) -> None:
    done = agent("enrol", "--server", NOBODY, "--state-dir", str(tmp_path / "s"), KERNEX_AGENT_TOKEN=TOKEN)
    ends(done, 6)
    assert "s3cret" not in done.stderr


def test_a_state_directory_that_cannot_be_made_is_8(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ends(agent("run", "--server", NOBODY, "--state-dir", str(tmp_path / "file" / "s")), 8, str(tmp_path / "file" / "s"))


def test_nothing_to_roll_back_is_10(tmp_path: Path) -> None:
    ends(agent("rollback", "vad", "--state-dir", str(tmp_path)), 10, "vad")


def test_a_damaged_journal_is_said_and_changed_by_nobody(tmp_path: Path) -> None:
    (tmp_path / "journal.json").write_text("{")
    ends(agent("status", "--state-dir", str(tmp_path)), 8, "damaged")
    assert (tmp_path / "journal.json").read_text() == "{"


def test_status_of_a_fresh_device() -> None:
    shown = agent("status", "--state-dir", "/nowhere")
    assert shown.returncode == 0
    assert "not enrolled" in shown.stdout


def test_the_identity_is_for_its_owner_alone(tmp_path: Path) -> None:
    agent("enrol", "--server", NOBODY, "--state-dir", str(tmp_path / "s"), KERNEX_AGENT_TOKEN=TOKEN)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "s" / "identity.key").stat().st_mode & 0o777 == 0o600
