"""The output and the exit codes of the command line, run as a process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TOKEN = "kxe_" + "s3cret" * 7
UNREACHABLE = "http://127.0.0.1:9"


def agent(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        cwd=ROOT, env={"PATH": os.environ["PATH"], **variables}, input=stdin,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def assert_exit(completed: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Assert the exit code, and that the last line of standard error contains these words."""
    assert completed.returncode == code, completed.stderr
    assert "Traceback" not in completed.stderr
    last_line = completed.stderr.strip().splitlines()[-1]
    assert [word for word in words if word not in last_line] == []


@pytest.mark.parametrize("command", ["enrol", "run", "once", "status", "rollback"])
def test_help_names_options_and_defaults(command: str) -> None:
    shown = agent(command, "--help")
    assert shown.returncode == 0
    assert "--state-dir" in shown.stdout
    assert "(default:" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("run",), "server"),
        (("run", "--server", "ftp://x"), "server"),
        (("run", "--server", "http://fleet.example.com"), "insecure_http"),
        (("run", "--server", "https://fleet.example.com/path"), "server"),
        (("run", "--server", UNREACHABLE, "--disk-margin", "-1"), "disk_margin"),
        (("run", "--server", UNREACHABLE, "--log-level", "loud"), "log_level"),
        (("run", "--server", UNREACHABLE, "--device-type", "Edge Device"), "device_type"),
        (("run", "--config", "/nowhere/agent.toml"), "/nowhere/agent.toml"),
        (("enrol", "--server", UNREACHABLE, "--token-file", "/nowhere/token"), "/nowhere/token"),
    ],
)
def test_an_invalid_option_is_named(arguments: tuple[str, ...], named: str, tmp_path: Path) -> None:
    assert_exit(agent(*arguments, "--state-dir", str(tmp_path / "s")), 2, named)


def test_a_device_that_is_not_enrolled_does_not_wait(tmp_path: Path) -> None:
    done = agent("run", "--server", UNREACHABLE, "--state-dir", str(tmp_path / "s"))
    assert_exit(done, 3, "token")
    assert "Trying again" not in done.stderr


def test_an_unknown_option_in_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('srever = "https://fleet.example.com"\n')
    assert_exit(agent("run", "--config", str(file)), 2, "srever")


def test_the_command_line_overrides_the_environment_which_overrides_the_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(f'state_dir = "{tmp_path / "file"}"\nlog_format = "json"\n')
    shown = [
        json.loads(agent("status", "--json", "--config", str(file), *arguments, **variables).stdout)["state_dir"]
        for arguments, variables in (
            ((), {}),
            ((), {"KERNEX_AGENT_STATE_DIR": str(tmp_path / "variable")}),
            (("--state-dir", str(tmp_path / "argument")), {"KERNEX_AGENT_STATE_DIR": str(tmp_path / "variable")}),
        )
    ]
    assert [Path(path).name for path in shown] == ["file", "variable", "argument"]


def test_a_token_on_the_command_line_is_refused_and_not_printed() -> None:
    done = agent("enrol", "--server", UNREACHABLE, "--token", TOKEN)
    assert_exit(done, 2, "unrecognized")
    assert "s3cret" not in done.stderr + done.stdout


def test_a_missing_token_is_named(tmp_path: Path) -> None:
    assert_exit(agent("enrol", "--server", UNREACHABLE, "--state-dir", str(tmp_path / "s")), 3, "token")


def test_an_invalid_token_is_refused_and_not_printed(tmp_path: Path) -> None:
    done = agent(
        "enrol", "--server", UNREACHABLE, "--state-dir", str(tmp_path / "s"), "--token-file", "-", stdin="s3cret word\n"
    )
    assert_exit(done, 2, "kxe_")
    assert "s3cret" not in done.stderr


def test_an_unreachable_server_is_exit_code_6(tmp_path: Path) -> None:
    done = agent("enrol", "--server", UNREACHABLE, "--state-dir", str(tmp_path / "s"), KERNEX_AGENT_TOKEN=TOKEN)
    assert_exit(done, 6)
    assert "s3cret" not in done.stderr


def test_a_state_directory_that_cannot_be_created_is_exit_code_8(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_exit(
        agent("run", "--server", UNREACHABLE, "--state-dir", str(tmp_path / "file" / "s")),
        8,
        str(tmp_path / "file" / "s"),
    )


def test_nothing_to_roll_back_is_exit_code_10(tmp_path: Path) -> None:
    assert_exit(agent("rollback", "vad", "--state-dir", str(tmp_path)), 10, "vad")


def test_status_reports_a_damaged_journal_and_does_not_change_it(tmp_path: Path) -> None:
    (tmp_path / "journal.json").write_text("{")
    assert_exit(agent("status", "--state-dir", str(tmp_path)), 8, "damaged")
    assert (tmp_path / "journal.json").read_text() == "{"


def test_the_status_of_a_new_device() -> None:
    shown = agent("status", "--state-dir", "/nowhere")
    assert shown.returncode == 0
    assert "not enrolled" in shown.stdout


def test_only_the_owner_can_read_the_identity(tmp_path: Path) -> None:
    agent("enrol", "--server", UNREACHABLE, "--state-dir", str(tmp_path / "s"), KERNEX_AGENT_TOKEN=TOKEN)
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "s" / "identity.key").stat().st_mode & 0o777 == 0o600
