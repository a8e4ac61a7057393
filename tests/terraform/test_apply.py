"""An apply against the stand-in: its outputs, a second plan without changes, and what may not be destroyed."""

import json
from typing import Any

import pytest

from tests.terraform.places import Place

VARIABLES = {"connection_pool": 20, "valkey_size": "db-s-1vcpu-1gb", "second_region": {"serve": True}}

PARTS = ("service", "worker", "job")


def environment(component: dict[str, Any]) -> dict[str, str]:
    return {entry["key"]: entry["value"] for entry in component["env"]}


def made(place: Place) -> dict[str, dict[str, Any]]:
    """What the state holds, by address."""
    root = json.loads(place.run("show", "-json"))["values"]["root_module"]
    return {found["address"]: found["values"] for found in walk(root)}


def walk(module: dict[str, Any]) -> list[dict[str, Any]]:
    found = list(module.get("resources", []))
    for child in module.get("child_modules", []):
        found += walk(child)
    return found


@pytest.fixture
def applied(place: Place) -> Place:
    """The first installation as a person goes through it."""
    for stage in ("base", "open", "complete"):
        words = place.words("production", VARIABLES | {"stage": stage})
        place.run("apply", "-no-color", "-auto-approve", *words)
    return place


def test_installation_is_complete_and_stays_as_it_is(applied: Place) -> None:
    words = applied.words("production", VARIABLES)
    assert "No changes." in applied.run("plan", "-no-color", "-detailed-exitcode", *words)
    told = {name: found["value"] for name, found in json.loads(applied.run("output", "-json")).items()}
    assert told["database_user"] == "kernex_app"
    assert told["database_url"].startswith("postgresql://kernex_app:made-up-password")
    assert told["database_url"].endswith(f"@{told['database_host']}:{told['database_port']}/kernex_db?sslmode=require")
    assert told["admin_database_url"].endswith("/kernex_db?sslmode=require")
    assert told["admin_database_url"] != told["database_url"]
    assert told["storage_secret_key"].startswith("made-up-secret_key")
    assert told["next_step"].startswith("Nothing")

    resources = made(applied)
    app = resources["module.app[0].digitalocean_app.this"]
    firewall = resources["digitalocean_database_firewall.this[0]"]
    admitted = {(rule["type"], rule["value"]) for rule in firewall["rule"]}
    second = resources["module.app_second[0].digitalocean_app.this"]
    assert admitted == {("app", app["id"]), ("app", second["id"]), ("ip_addr", "203.0.113.7")}
    assert app["spec"][0]["vpc"] == [{"id": resources["digitalocean_vpc.this"]["id"]}]

    browsers = {app["live_url"], second["live_url"]}
    for bucket in ("bundles", "second"):
        (rule,) = resources[f"digitalocean_spaces_bucket_cors_configuration.{bucket}[0]"]["cors_rule"]
        assert set(rule["allowed_origins"]) == browsers

    addresses = {part["name"]: environment(part)["DATABASE_URL"] for kind in PARTS for part in app["spec"][0][kind]}
    assert "/kernex-web?" in addresses["web"]
    assert "made-up-private_host" in addresses["scheduler"] == addresses["migrate"]
    assert "@made-up-host" in environment(second["spec"][0]["service"][0])["DATABASE_URL"]


def test_data_is_not_destroyed(applied: Place) -> None:
    words = applied.words("production", VARIABLES)
    said = applied.run("destroy", "-no-color", "-auto-approve", *words, passes=False)
    assert "Instance cannot be destroyed" in said
    for kept in (
        "digitalocean_database_cluster.this",
        "digitalocean_spaces_bucket.this",
        "digitalocean_spaces_bucket.backups",
        "digitalocean_spaces_bucket.copies",
    ):
        assert kept in said
    assert "module.database.digitalocean_database_cluster.this" in applied.run("state", "list")


def test_secrets_are_not_printed(applied: Place) -> None:
    words = applied.words("production", VARIABLES | {"web_instances": 3})
    said = applied.run("plan", "-no-color", *words) + applied.run("output", "-no-color")
    for secret in ("made-up-password", "made-up-secret_key", "s" * 60, "m" * 30):
        assert secret not in said


def test_storage_key_changes_without_a_gap(applied: Place) -> None:
    key, app = "module.bundles.digitalocean_spaces_key.app", "module.app[0].digitalocean_app.this"
    before = made(applied)
    said = applied.run(
        "apply", "-no-color", "-auto-approve", f"-replace={key}", *applied.words("production", VARIABLES)
    )
    after = made(applied)
    steps = [said.index(step) for step in (f"{key}: Creating...", f"{app}: Modifications complete", "Destroying...")]
    assert steps == sorted(steps)
    assert after[key]["secret_key"] != before[key]["secret_key"]
    told = environment(after[app]["spec"][0]["service"][0])
    assert told["STORAGE_ACCESS_KEY"] == after[key]["access_key"]
    assert told["STORAGE_SECRET_KEY"] == after[key]["secret_key"]
