"""compose.yaml and the Dockerfile, without building an image."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.live import ROOT

TEXT = (ROOT / "compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "kernex"}
BIN = Path(sys.executable).parent
READ = re.compile(r'env\.\w+\(\s*"([A-Z_]+)"')


def program(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BIN / words[0]), *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_dockerfile_passes_its_linter() -> None:
    linted = program("hadolint", "Dockerfile")
    assert linted.returncode == 0, linted.stdout


def test_compose_is_valid() -> None:
    checked = program("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")
    assert checked.returncode == 0, checked.stdout


def test_each_variable_is_a_setting() -> None:
    existing = set(READ.findall((ROOT / "kernex" / "settings.py").read_text())) | {"ADMIN_DATABASE_URL"}
    used = {name for service in OURS.values() for name in service["environment"]}
    assert used <= existing
    assert {"SECRET_KEY", "DATABASE_URL", "STORAGE_BUCKET", "STORAGE_SECRET_KEY", "TRUSTED_PROXY"} <= used


def test_only_one_service_gets_the_admins_password() -> None:
    assert [name for name, service in OURS.items() if "ADMIN_DATABASE_URL" in service["environment"]] == ["grant"]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_are_confined(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "ports" not in service


def test_only_the_proxy_publishes_ports() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]


def test_third_party_images_are_pinned() -> None:
    for name, service in SERVICES.items():
        if name not in OURS:
            assert re.search(r":(RELEASE\.)?\d[\w.-]*\.?\d", service["image"]), service["image"]
            assert "latest" not in service["image"]
    base = re.search(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert base is not None
    assert re.search(r"@sha256:[0-9a-f]{64}$", base[1])


def test_web_gets_the_time_to_stop_that_gunicorn_needs() -> None:
    timeout = re.search(r"^graceful_timeout = (\d+)$", (ROOT / "gunicorn.conf.py").read_text(), re.MULTILINE)
    assert timeout is not None
    assert int(SERVICES["web"]["stop_grace_period"].removesuffix("s")) > int(timeout[1])


def test_each_variable_of_dotenv_is_documented() -> None:
    variables = set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    document = (ROOT / "docs" / "image.md").read_text()
    assert {name for name in variables if f"{name}=" not in document} == set()


def test_the_build_context_leaves_secrets_and_environments_out() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    assert "*" in lines
    admitted = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    copied_paths = {path for line in copied for path in line.split()[:-1] if not path.startswith("--")}
    # An admitted directory includes everything under it.
    assert {path for path in copied_paths if path not in admitted and path.split("/")[0] not in admitted} == set()
    assert {
        entry for entry in admitted if not any(path == entry or path.startswith(f"{entry}/") for path in copied_paths)
    } == set()


def test_a_backup_is_made_every_night_into_a_volume() -> None:
    service = SERVICES["backup"]
    assert service["command"] == ["nightly", "03:17", "backup", "/backups", "--blobs", "--keep", "14"]
    assert "${BACKUPS:-backups}:/backups" in service["volumes"]
    assert "backups" in yaml.safe_load(TEXT)["volumes"]


def test_a_dump_is_not_kept_in_memory() -> None:
    """A tmpfs counts towards the memory limit of a container."""
    assert SERVICES["backup"]["tmpfs"] == []
    assert "/tmp" in SERVICES["backup"]["volumes"]
