"""The images, built and run as in production: programs, limits, and a device that installs a bundle."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from dev.image import BASE, Builder
from dev.postgres import free_port
from tests.end_to_end.fleet import deploy, final_device_deployment, push, wait_until_online
from tests.image.container import LIMIT_BYTES, USER, Image, finished, running, unpacked, until, volume
from tests.live import Live, own_database

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]
LARGEST_ADDED_BYTES = 350 * 1024 * 1024


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A client for a control plane whose processes the test starts."""
    with own_database() as url:
        port = free_port()
        environment = {
            "DATABASE_URL": url, "SECRET_KEY": "x" * 60, "BIND": f"127.0.0.1:{port}",
            "PUBLIC_URL": f"http://127.0.0.1:{port}", "LOG_FORMAT": "json",
        }  # fmt: skip
        outside = {"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "kernex.settings"}
        yield Live(tmp_path, environment | outside, port)


def settings_of(live: Live) -> dict[str, str]:
    """The environment of a container."""
    return {name: value for name, value in live.environment.items() if name != "PATH"}


def size_of(place: Path) -> int:
    return sum(path.lstat().st_size for path in place.rglob("*") if not path.is_symlink())


def test_a_device_installs_a_bundle_from_a_control_plane_under_its_limits(
    control_plane: Image, agent: Image, live: Live, tmp_path: Path
) -> None:
    settings = settings_of(live)
    assert finished(control_plane, tmp_path, ["migrate"], settings)[0] == 0
    live.prepare()
    storage = {"/var/lib/kernex": volume(tmp_path / "bundles")}
    with ExitStack() as stack:
        web = stack.enter_context(running(control_plane, tmp_path, ["web"], settings, storage))
        until(lambda: answers(live, "/health/live"), web)
        scheduler = stack.enter_context(running(control_plane, tmp_path, ["scheduler"], settings, storage))
        until(lambda: requests.get(f"{live.url}/health", timeout=30).json()["status"] == "ok", web)
        assert requests.get(f"{live.url}/admin/login/", timeout=30).status_code == 200
        assert web.execute("/app/deploy/alive").returncode == 0
        assert scheduler.execute("/app/deploy/alive").returncode == 0

        agent_settings = {
            "KERNEX_AGENT_SERVER": live.url, "KERNEX_AGENT_TOKEN": live.enrolment_token(),
            "KERNEX_AGENT_DEVICE_TYPE": "edge", "KERNEX_AGENT_NAME": "in-a-container",
        }  # fmt: skip
        state = {"/var/lib/kernex-agent": volume(tmp_path / "device")}
        device = stack.enter_context(running(agent, tmp_path, [], agent_settings, state))
        name = wait_until_online(live, "in-a-container")
        push(live, tmp_path / "one", "1", healthy=True)
        assert final_device_deployment(live, deploy(live, name, "1"))["state"] == "succeeded"

        # The other half is for load, and for boto3, which only a bucket needs.
        assert web.memory_peak() < LIMIT_BYTES // 2
        assert scheduler.memory_peak() < LIMIT_BYTES // 2
        assert [device.terminate(), scheduler.terminate(), web.terminate()] == [0, 0, 0]


def answers(live: Live, path: str) -> bool:
    try:
        return requests.get(live.url + path, timeout=5).ok
    except requests.ConnectionError:
        return False


def test_the_health_check_fails_where_the_web_server_does_not_answer(
    control_plane: Image, live: Live, tmp_path: Path
) -> None:
    settings = settings_of(live)
    assert finished(control_plane, tmp_path, ["migrate"], settings)[0] == 0
    with running(control_plane, tmp_path, [], settings) as web:
        until(lambda: answers(live, "/health/live"), web)
        check = web.execute("env", f"BIND=127.0.0.1:{free_port()}", "/app/deploy/alive")
        assert check.returncode == 1
        assert "/health/live" in check.stderr


def test_its_user_can_change_nothing_in_it(control_plane: Image, agent: Image) -> None:
    for image, homes in ((control_plane, {"var/lib/kernex", "backups"}), (agent, {"var/lib/kernex-agent"})):
        assert image.config["User"] == f"{USER}:{USER}"
        owned = {path for path in image.root.rglob("*") if path.lstat().st_uid == USER}
        assert owned == {image.root / home for home in homes}


def test_it_declares_its_health_check_and_port(control_plane: Image) -> None:
    assert control_plane.config["Healthcheck"]["Test"] == ["CMD", "/app/deploy/alive"]
    assert list(control_plane.config["ExposedPorts"]) == ["8000/tcp"]
    assert control_plane.config["Cmd"] == ["web"]


def test_the_image_contains_only_what_it_needs_to_run(control_plane: Image, agent: Image) -> None:
    app = {path.name for path in (control_plane.root / "app").iterdir()} - {"__pycache__"}
    assert app == {
        "manage.py", "gunicorn.conf.py", "kernex", "operations", "deployments", "devices", "bundles", "foundation",
        "deploy", "static",
    }  # fmt: skip
    assert {path.name for path in (agent.root / "app").iterdir()} == {"agent"}
    for image in (control_plane, agent):
        assert not (image.root / "usr/bin/gcc").exists()
        assert not (image.root / "opt/python/bin/pip").exists()


def test_it_is_small(control_plane: Image, builder: Builder) -> None:
    with unpacked(builder, BASE) as base:
        assert size_of(control_plane.root) - size_of(base.root) < LARGEST_ADDED_BYTES


@pytest.mark.parametrize("program", ["web", "scheduler", "migrate", "backup"])
def test_a_wrong_setting_is_reported_in_a_sentence(control_plane: Image, tmp_path: Path, program: str) -> None:
    code, text = finished(control_plane, tmp_path, [program], {"SECRET_KEY": "short"})
    assert code != 0
    assert "SECRET_KEY is missing or short" in text


def test_other_names_are_commands_of_manage(control_plane: Image, live: Live, tmp_path: Path) -> None:
    code, text = finished(control_plane, tmp_path, ["create_operator", "--help"], settings_of(live))
    assert code == 0
    assert "create_operator" in text


def test_programs_are_on_path_for_platforms_that_replace_the_entry_point(control_plane: Image, tmp_path: Path) -> None:
    bare = Image(control_plane.root, control_plane.config | {"Entrypoint": ["/bin/sh", "-c"]})
    code, text = finished(bare, tmp_path, ["migrate"], {"SECRET_KEY": "short"})
    assert code != 0
    assert "SECRET_KEY is missing or short" in text
