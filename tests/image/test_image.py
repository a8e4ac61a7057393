"""The image, built for real and run as in production: its words, its limits, and a device that installs a bundle."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from dev.image import BASE, MIRROR, TARGETS, Builder, alone, build_all
from dev.postgres import free_port
from tests.end_to_end.fleet import deploy, end_of, online, push
from tests.image.container import LIMIT_BYTES, Image, finished, running, unpacked, until
from tests.live import ROOT, Live, own_database
from tests.tools import need

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]
# Built where `make image` builds, so that the base is there the next time; KERNEX_IMAGE_DIR names images built already.
BUILT = os.environ.get("KERNEX_IMAGE_DIR")
PLACE = Path(BUILT or ROOT / "var" / "image")
NOBODY = 10001
LARGEST_ADDED_BYTES = 250 * 1024 * 1024


@pytest.fixture(scope="module")
def builder() -> Iterator[Builder]:
    for program in ("buildah", "debootstrap", "runc"):
        need(program)
    if not BUILT:
        build_all(PLACE, MIRROR)
    with alone(PLACE) as builder:
        yield builder


@pytest.fixture(scope="module")
def control_plane(builder: Builder) -> Iterator[Image]:
    with unpacked(builder, TARGETS["control-plane"]) as image:
        yield image


@pytest.fixture(scope="module")
def agent(builder: Builder) -> Iterator[Image]:
    with unpacked(builder, TARGETS["agent"]) as image:
        yield image


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """What tests say to a control plane at its port; the processes are not started yet."""
    with own_database() as url:
        port = free_port()
        environment = {
            "DATABASE_URL": url, "SECRET_KEY": "x" * 60, "BIND": f"127.0.0.1:{port}",
            "PUBLIC_URL": f"http://127.0.0.1:{port}", "LOG_FORMAT": "json",
        }  # fmt: skip
        outside = {"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "kernex.settings"}
        yield Live(tmp_path, environment | outside, port)


def given(live: Live) -> dict[str, str]:
    """What a container is told."""
    return {name: value for name, value in live.environment.items() if name != "PATH"}


def volume(directory: Path) -> Path:
    directory.mkdir()
    os.chown(directory, NOBODY, NOBODY)
    return directory


def size_of(place: Path) -> int:
    return sum(path.lstat().st_size for path in place.rglob("*") if not path.is_symlink())


def test_a_device_installs_a_bundle_from_a_control_plane_under_its_limits(
    control_plane: Image, agent: Image, live: Live, tmp_path: Path
) -> None:
    settings = given(live)
    assert finished(control_plane, tmp_path, ["migrate"], settings)[0] == 0
    live.prepare()
    kept = {"/var/lib/kernex": volume(tmp_path / "bundles")}
    with ExitStack() as stack:
        web = stack.enter_context(running(control_plane, tmp_path, ["web"], settings, kept))
        until(lambda: answers(live, "/health/live"), web)
        scheduler = stack.enter_context(running(control_plane, tmp_path, ["scheduler"], settings, kept))
        until(lambda: requests.get(f"{live.url}/health", timeout=30).json()["status"] == "ok", web)
        assert requests.get(f"{live.url}/admin/login/", timeout=30).status_code == 200
        assert web.execute("/app/deploy/alive").returncode == 0
        assert scheduler.execute("/app/deploy/alive").returncode == 0

        told = {
            "KERNEX_AGENT_SERVER": live.url, "KERNEX_AGENT_TOKEN": live.enrolment_token(),
            "KERNEX_AGENT_DEVICE_TYPE": "edge", "KERNEX_AGENT_NAME": "in-a-container",
        }  # fmt: skip
        state = {"/var/lib/kernex-agent": volume(tmp_path / "device")}
        device = stack.enter_context(running(agent, tmp_path, [], told, state))
        name = online(live, "in-a-container")
        push(live, tmp_path / "one", "1", healthy=True)
        assert end_of(live, deploy(live, name, "1"))["state"] == "succeeded"

        # Half is left for load, and for the storage library that only a bucket needs.
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
    settings = given(live)
    assert finished(control_plane, tmp_path, ["migrate"], settings)[0] == 0
    with running(control_plane, tmp_path, [], settings) as web:
        until(lambda: answers(live, "/health/live"), web)
        elsewhere = web.execute("env", f"BIND=127.0.0.1:{free_port()}", "/app/deploy/alive")
        assert elsewhere.returncode == 1
        assert "/health/live" in elsewhere.stderr


def test_nothing_in_it_can_be_changed_by_who_runs_it(control_plane: Image, agent: Image) -> None:
    for image, home in ((control_plane, "var/lib/kernex"), (agent, "var/lib/kernex-agent")):
        assert image.said["User"] == f"{NOBODY}:{NOBODY}"
        theirs = [path for path in image.root.rglob("*") if path.lstat().st_uid == NOBODY]
        assert theirs == [image.root / home]


def test_it_says_how_it_is_watched_and_where_it_listens(control_plane: Image) -> None:
    assert control_plane.said["Healthcheck"]["Test"] == ["CMD", "/app/deploy/alive"]
    assert list(control_plane.said["ExposedPorts"]) == ["8000/tcp"]
    assert control_plane.said["Cmd"] == ["web"]


def test_only_what_runs_is_in_it(control_plane: Image, agent: Image) -> None:
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


@pytest.mark.parametrize("word", ["web", "scheduler", "migrate"])
def test_a_wrong_setting_is_a_sentence(control_plane: Image, tmp_path: Path, word: str) -> None:
    code, text = finished(control_plane, tmp_path, [word], {"SECRET_KEY": "short"})
    assert code != 0
    assert "SECRET_KEY is missing or short" in text


def test_other_words_are_commands_of_manage(control_plane: Image, live: Live, tmp_path: Path) -> None:
    code, text = finished(control_plane, tmp_path, ["create_operator", "--help"], given(live))
    assert code == 0
    assert "create_operator" in text


def test_words_are_programs_where_a_platform_leaves_the_entry_point_out(control_plane: Image, tmp_path: Path) -> None:
    bare = Image(control_plane.root, control_plane.said | {"Entrypoint": ["/bin/sh", "-c"]})
    code, text = finished(bare, tmp_path, ["migrate"], {"SECRET_KEY": "short"})
    assert code != 0
    assert "SECRET_KEY is missing or short" in text
