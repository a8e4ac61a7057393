"""`make run`: the whole of Kernex on one machine, with a device on which a real model runs.

Starts PostgreSQL, the web server, the scheduler and an agent, shows a deployment that succeeds and one that the device
refuses, and stays until Ctrl-C. All data is kept below VAR; a second run goes on with it.
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

from dev import bootstrap, demonstration
from dev.children import ChildFailed, Children
from dev.control_plane import INTERVAL_SECONDS, CallFailed, ControlPlane
from dev.postgres import Postgres, PostgresFailed
from dev.screen import Screen
from dev.workspace import CannotRun, Workspace

ROOT = Path(__file__).resolve().parent.parent
DEVICE_ENVIRONMENT = ROOT / ".venv-device"
OPERATOR = "operator"
START_SECONDS = 60


class Runner:
    """One run of everything, in the order of its methods."""

    def __init__(self, workspace: Workspace, screen: Screen) -> None:
        self.workspace = workspace
        self.screen = screen
        self.children = Children(workspace.directory)
        self.environment: dict[str, str] = {}
        self.control_plane = ControlPlane(workspace.url, "")

    def start(self) -> None:
        self.workspace.open()
        if self.children.end_left_over():
            self.screen.say("[dim]Ended what a killed run had left behind.[/]")
        self.workspace.check_port()
        self.prepare_device_environment()
        self.start_database()
        self.prepare_database()
        self.make_operator()
        self.start_servers()
        self.start_device()

    def prepare_device_environment(self) -> None:
        with self.screen.step("The device's own Python environment (onnxruntime)"):
            bootstrap.make_environment(DEVICE_ENVIRONMENT, [str(ROOT / "demo" / "requirements.txt")])

    def start_database(self) -> None:
        with self.screen.step("PostgreSQL") as step:
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
        with self.screen.step("Grants for kernex_app"):
            self.manage("grant_perms")
        del self.environment["ADMIN_DATABASE_URL"]
        with self.screen.step("Migrations, as kernex_app"):
            self.manage("migrate", "--verbosity=0")
        self.collect_static_files()

    def collect_static_files(self) -> None:
        """Only when a package or a file of ours changed."""
        sources = [str(path) for path in sorted((ROOT / "kernex" / "static").rglob("*")) if path.is_file()]
        wanted = bootstrap.fingerprint([str(ROOT / "requirements.txt"), *sources])
        if self.workspace.secrets.get("static_files") == wanted:
            return
        with self.screen.step("Static files"):
            self.manage("collectstatic", "--no-input", "--verbosity=0")
        self.workspace.keep("static_files", wanted)

    def make_operator(self) -> None:
        if "token" in self.workspace.secrets:
            return
        with self.screen.step(f"The operator `{OPERATOR}`"):
            told = json.loads(self.manage("create_operator", OPERATOR, "--token=admin", "--json"))
        if "password" in told:
            self.workspace.write_password(told["password"])
            self.screen.say(f"  log in as [bold]{OPERATOR}[/] with [bold]{told['password']}[/]  [dim](shown once)[/]")
        self.workspace.keep("token", told["token"])

    def start_servers(self) -> None:
        with self.screen.step("Web server and scheduler"):
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
                answer = requests.get(f"{self.workspace.url}/health", timeout=5)
            except requests.RequestException:
                time.sleep(0.1)
                continue
            if answer.status_code == 200:
                return
            time.sleep(0.2)
        raise ChildFailed(f"The web server did not answer. The end of its log:\n{self.children.tail('web')}")

    def start_device(self) -> None:
        with self.screen.step("A device") as step:
            environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
            environment |= {
                "KERNEX_AGENT_SERVER": self.workspace.url,
                "KERNEX_AGENT_STATE_DIR": str(self.workspace.directory / "device"),
                "KERNEX_AGENT_DEVICE_TYPE": "edge",
                "KERNEX_AGENT_NAME": "demo-device",
                "KERNEX_AGENT_PYTHON": str(DEVICE_ENVIRONMENT / "bin" / "python"),
            }
            if "enrolment_token" not in self.workspace.secrets:
                self.workspace.keep("enrolment_token", self.control_plane.make_enrolment_token())
            environment["KERNEX_AGENT_TOKEN"] = self.workspace.secrets["enrolment_token"]
            command = [str(DEVICE_ENVIRONMENT / "bin" / "python"), "-m", "agent", "run"]
            self.children.start("agent", command, environment)
            device = self.control_plane.wait_for_device(self.children.check)
            step.conclusion = f"{device['name']} is online, heartbeats every {INTERVAL_SECONDS} s"

    def demonstrate(self) -> None:
        demonstration.show(self.screen, self.control_plane, self.workspace, self.environment, self.children.check)

    def manage(self, *words: str) -> str:
        """Run a management command; what it wrote. Raises `ChildFailed` with its own words."""
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "manage.py", *words],
            env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ChildFailed(f"manage.py {words[0]} failed:\n{(done.stdout + done.stderr).strip()[-1500:]}")
        return done.stdout

    def stay(self) -> NoReturn:
        """Until Ctrl-C, or until something ends that should not."""
        self.screen.say()
        self.screen.say(f"[bold green]Kernex is ready:[/] {self.workspace.url}/admin/")
        self.screen.say(f"  operator [bold]{OPERATOR}[/], password in {self.workspace.password_file}")
        self.screen.say(f"  logs and data in {self.workspace.directory}   [dim]Ctrl-C ends everything[/]")
        while True:
            self.children.check()
            time.sleep(0.5)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="port of the web server on 127.0.0.1")
    parser.add_argument("--var", type=Path, default=Path("var"), help="directory of all data")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, interrupt)
    screen = Screen()
    runner = Runner(Workspace(arguments.var, arguments.port), screen)
    try:
        runner.start()
        runner.demonstrate()
        runner.stay()
    except KeyboardInterrupt:
        screen.say("\nStopping …")
        return 0
    except (CannotRun, CallFailed, ChildFailed, PostgresFailed, bootstrap.CannotSetUp) as error:
        screen.console.print(f"\n{error}", style="red", markup=False)
        return 1
    except OSError as error:
        screen.console.print(
            f"\n{error}: make room or choose another directory, make run VAR=/some/dir.", style="red", markup=False
        )
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        runner.children.stop()


if __name__ == "__main__":
    sys.exit(main())
