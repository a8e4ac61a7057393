"""`make run`: run all of Kernex on this machine, with a device that runs a real model.

It starts PostgreSQL, the web server, the scheduler and an agent. It shows a deployment that succeeds, one that the
device rolls back, and one in phases to a simulated fleet that trips and is rolled back. Then it runs until Ctrl-C. All
data is under VAR; the next run continues with it.

`make fleet` starts the same control plane with a simulated fleet only.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import requests

from dev import bootstrap, demonstration, fleet_demonstration
from dev.child_processes import ChildFailed, ChildProcesses
from dev.control_plane import INTERVAL_SECONDS, CallFailed, ControlPlane
from dev.postgres import Postgres, PostgresFailed
from dev.terminal import Terminal
from dev.workspace import CannotRun, Workspace

ROOT = Path(__file__).resolve().parent.parent
DEVICE_ENVIRONMENT = ROOT / ".venv-device"
OPERATOR = "operator"
START_SECONDS = 60


class Runner:
    """One run of Kernex. Its methods are in the order in which they are called."""

    def __init__(self, workspace: Workspace, terminal: Terminal, fleet_size: int) -> None:
        self.workspace = workspace
        self.fleet_size = fleet_size
        self.terminal = terminal
        self.children = ChildProcesses(workspace.directory)
        self.environment: dict[str, str] = {}
        self.control_plane = ControlPlane(workspace.url, "")

    def start(self) -> None:
        self.workspace.open()
        if self.children.stop_leftovers():
            self.terminal.print("[dim]Stopped the processes of a run that was killed.[/]")
        self.workspace.check_port()
        if not self.fleet_size:
            self.prepare_device_environment()
        self.start_database()
        self.prepare_database()
        self.create_operator()
        self.start_servers()
        if not self.fleet_size:
            self.start_device()
        self.start_fleet()

    def prepare_device_environment(self) -> None:
        with self.terminal.step("The device's Python environment (onnxruntime)"):
            bootstrap.create_environment(DEVICE_ENVIRONMENT, [str(ROOT / "demo" / "requirements.txt")])

    def start_database(self) -> None:
        with self.terminal.step("PostgreSQL") as step:
            server = Postgres(self.workspace.directory / "postgres").start()
            if server.process is not None:
                self.children.adopt("postgres", server.process)
            step.conclusion = f"127.0.0.1:{server.port}, roles doadmin and kernex_app"
        self.environment = {
            **os.environ,
            "SECRET_KEY": self.workspace.secrets["secret_key"],
            "DATABASE_URL": server.app_url,
            "ADMIN_DATABASE_URL": server.admin_url,
            "PUBLIC_URL": self.workspace.url,
            "BIND": f"127.0.0.1:{self.workspace.port}",
            "STORAGE_DIR": str(self.workspace.directory / "storage"),
            "STATIC_ROOT": str(self.workspace.directory / "static"),
        }

    def prepare_database(self) -> None:
        with self.terminal.step("Grants for kernex_app"):
            self.manage("grant_perms")
        del self.environment["ADMIN_DATABASE_URL"]
        with self.terminal.step("Migrations, as kernex_app"):
            self.manage("migrate", "--verbosity=0")
        self.collect_static_files()

    def collect_static_files(self) -> None:
        """Run collectstatic if a package or one of our static files changed."""
        folders = [package.parent / "static" for package in sorted(ROOT.glob("*/__init__.py"))]
        sources = [str(path) for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        digest = bootstrap.fingerprint([str(ROOT / "requirements.txt"), *sources])
        if self.workspace.secrets.get("static_files") == digest:
            return
        with self.terminal.step("Static files"):
            self.manage("collectstatic", "--no-input", "--verbosity=0")
        self.workspace.keep("static_files", digest)

    def create_operator(self) -> None:
        if "token" in self.workspace.secrets:
            return
        with self.terminal.step(f"The operator `{OPERATOR}`"):
            operator = json.loads(self.manage("create_operator", OPERATOR, "--token=admin", "--json"))
        if password := operator.get("password"):
            self.workspace.write_password(password)
            self.terminal.print(f"  sign in as [bold]{OPERATOR}[/] with [bold]{password}[/]  [dim](shown only once)[/]")
        self.workspace.keep("token", operator["token"])

    def start_servers(self) -> None:
        with self.terminal.step("Web server and scheduler"):
            web = [sys.executable, "-m", "gunicorn", "--config", str(ROOT / "gunicorn.conf.py"), "kernex.wsgi"]
            self.children.start("web", web, self.environment)
            self.children.start("scheduler", [sys.executable, "manage.py", "run_scheduler"], self.environment)
            self.control_plane = ControlPlane(self.workspace.url, self.workspace.secrets["token"])
            self.wait_for_health()

    def wait_for_health(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.children.check()
            try:
                response = requests.get(f"{self.workspace.url}/health", timeout=5)
            except requests.RequestException:
                time.sleep(0.1)
                continue
            if response.status_code == 200:
                return
            time.sleep(0.2)
        raise ChildFailed(f"The web server did not respond. The end of its log:\n{self.children.tail('web')}")

    def start_device(self) -> None:
        with self.terminal.step("A device") as step:
            environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
            environment |= {
                "KERNEX_AGENT_SERVER": self.workspace.url,
                "KERNEX_AGENT_STATE_DIR": str(self.workspace.directory / "device"),
                "KERNEX_AGENT_DEVICE_TYPE": "edge",
                "KERNEX_AGENT_NAME": "demo-device",
                "KERNEX_AGENT_PYTHON": str(DEVICE_ENVIRONMENT / "bin" / "python"),
            }
            if "enrolment_token" not in self.workspace.secrets:
                self.workspace.keep("enrolment_token", self.control_plane.create_enrolment_token())
            environment["KERNEX_AGENT_TOKEN"] = self.workspace.secrets["enrolment_token"]
            command = [str(DEVICE_ENVIRONMENT / "bin" / "python"), "-m", "agent", "run"]
            self.children.start("agent", command, environment)
            device = self.control_plane.wait_for_device(self.children.check)
            step.conclusion = f"{device['name']} is online, heartbeats every {INTERVAL_SECONDS} s"

    def start_fleet(self) -> None:
        size = self.fleet_size or fleet_demonstration.SMALL_FLEET
        with self.terminal.step(f"A simulated fleet of {size} devices") as step:
            command = fleet_demonstration.command(self.workspace.url, self.control_plane.token, size)
            self.children.start("fleet", command, self.environment)
            self.control_plane.wait_for_devices(size, self.children.check)
            step.conclusion = f"group {fleet_demonstration.GROUP}"

    def demonstrate(self) -> None:
        if not self.fleet_size:
            demonstration.show(self.terminal, self.control_plane, self.workspace, self.environment, self.children.check)
        fleet_demonstration.show(
            self.terminal, self.control_plane, self.workspace, self.environment, self.children.check
        )

    def manage(self, *arguments: str) -> str:
        """Run a management command and return its output. Raise `ChildFailed` if it fails."""
        completed = subprocess.run(
            [sys.executable, "-W", "ignore", "manage.py", *arguments],
            env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if completed.returncode:
            raise ChildFailed(
                f"manage.py {arguments[0]} failed:\n{(completed.stdout + completed.stderr).strip()[-1500:]}"
            )
        return completed.stdout

    def wait(self) -> NoReturn:
        """Print where Kernex runs, then wait until Ctrl-C or until a process fails."""
        self.terminal.print()
        self.terminal.print(f"[bold green]Kernex is ready:[/] {self.workspace.url}/admin/")
        self.terminal.print(f"  operator [bold]{OPERATOR}[/], password in {self.workspace.password_file}")
        self.terminal.print(f"  logs and data in {self.workspace.directory}   [dim]Ctrl-C stops everything[/]")
        while True:
            self.children.check()
            time.sleep(0.5)


def interrupt(*_: object) -> None:
    """End the run. Later signals are ignored, because they would interrupt the stopping of the processes."""
    ignore_signals()
    raise KeyboardInterrupt


def ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8000, help="port of the web server on 127.0.0.1")
    parser.add_argument("--var", type=Path, default=Path("var"), help="directory of all data")
    parser.add_argument(
        "--fleet", type=int, default=0, metavar="N", help="start N simulated devices instead of a real one"
    )
    arguments = parser.parse_args()
    os.chdir(ROOT)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    terminal = Terminal()
    runner = Runner(Workspace(arguments.var, arguments.port), terminal, arguments.fleet)
    try:
        runner.start()
        runner.demonstrate()
        runner.wait()
    except KeyboardInterrupt:
        terminal.print("\nStopping …")
        return 0
    except (CannotRun, CallFailed, ChildFailed, PostgresFailed, bootstrap.CannotSetUp) as error:
        terminal.print_error(str(error))
        return 1
    except OSError as error:
        terminal.print_error(f"{error}: free some space, or choose another directory with `make run VAR=/some/dir`.")
        return 1
    finally:
        ignore_signals()
        runner.children.stop()


if __name__ == "__main__":
    sys.exit(main())
