"""An apply with the fake provider: its outputs, a second plan without changes, and what cannot be destroyed."""

import json
from typing import Any

import pytest

from tests.terraform.project import Project

VARIABLES = {
    "connection_pool": 20, "second_region": {"serve": True},
    "read_replica_size": "db-s-2vcpu-4gb", "valkey_size": "db-s-1vcpu-1gb", "cdn": True,
}  # fmt: skip

PARTS = ("service", "worker", "job")


def environment(component: dict[str, Any]) -> dict[str, str]:
    return {entry["key"]: entry["value"] for entry in component["env"]}


def resources(project: Project) -> dict[str, dict[str, Any]]:
    """The content of the state by address."""
    root = json.loads(project.terraform("show", "-json"))["values"]["root_module"]
    return {resource["address"]: resource["values"] for resource in walk(root)}


def walk(module: dict[str, Any]) -> list[dict[str, Any]]:
    """The resources of a module and of the modules in it."""
    collected = list(module.get("resources", []))
    for child in module.get("child_modules", []):
        collected += walk(child)
    return collected


@pytest.fixture
def applied(project: Project) -> Project:
    """The first installation, stage by stage."""
    for stage in ("base", "open", "complete"):
        arguments = project.arguments("production", VARIABLES | {"stage": stage})
        project.terraform("apply", "-no-color", "-auto-approve", *arguments)
    return project


def test_installation_is_complete_and_stays_as_it_is(applied: Project) -> None:
    arguments = applied.arguments("production", VARIABLES)
    assert "No changes." in applied.terraform("plan", "-no-color", "-detailed-exitcode", *arguments)
    listed = json.loads(applied.terraform("output", "-json"))
    outputs = {name: output["value"] for name, output in listed.items()}
    assert outputs["database_user"] == "kernex_app"
    assert outputs["database_url"].startswith("postgresql://kernex_app:made-up-password")
    server = f"@{outputs['database_host']}:{outputs['database_port']}/kernex_db?sslmode=require"
    assert outputs["database_url"].endswith(server)
    assert outputs["admin_database_url"].endswith(server)
    assert outputs["admin_database_url"] != outputs["database_url"]
    assert outputs["storage_secret_key"].startswith("made-up-secret_key")
    assert outputs["database_replica_url"].startswith("postgresql://kernex_app:made-up-password")
    assert f"@{outputs['database_replica_host']}:" in outputs["database_replica_url"]
    assert outputs["valkey_url"].startswith("made-up-private_uri")
    assert outputs["cdn_endpoint"].startswith("made-up-endpoint")
    assert outputs["next_step"].startswith("Nothing")

    state = resources(applied)
    app = state["module.app[0].digitalocean_app.this"]
    firewall = state["digitalocean_database_firewall.this[0]"]
    allowed = {(rule["type"], rule["value"]) for rule in firewall["rule"]}
    second = state["module.app_second[0].digitalocean_app.this"]
    assert allowed == {("app", app["id"]), ("app", second["id"]), ("ip_addr", "203.0.113.7")}
    for extension, cluster in (
        ("read_replica", state["module.database.digitalocean_database_replica.read[0]"]["uuid"]),
        ("valkey", state["digitalocean_database_cluster.valkey[0]"]["id"]),
    ):
        firewall = state[f'digitalocean_database_firewall.extension["{extension}"]']
        assert firewall["cluster_id"] == cluster
        assert {(rule["type"], rule["value"]) for rule in firewall["rule"]} == {
            ("app", app["id"]), ("ip_addr", "203.0.113.7"),
        }  # fmt: skip
    assert app["spec"][0]["vpc"] == [{"id": state["digitalocean_vpc.this"]["id"]}]

    browsers = {app["live_url"], second["live_url"]}
    for bucket in ("bundles", "second"):
        (rule,) = state[f"digitalocean_spaces_bucket_cors_configuration.{bucket}[0]"]["cors_rule"]
        assert set(rule["allowed_origins"]) == browsers

    processes = {part["name"]: environment(part) for kind in PARTS for part in app["spec"][0][kind]}
    assert "/kernex-web?" in processes["web"]["DATABASE_URL"]
    for direct in ("scheduler", "migrate", "backup"):
        assert "made-up-private_host" in processes[direct]["DATABASE_URL"]
    assert "@made-up-host" in environment(second["spec"][0]["service"][0])["DATABASE_URL"]


def test_only_the_backup_gets_the_key_of_the_backups_bucket(applied: Project) -> None:
    state = resources(applied)
    app = state["module.app[0].digitalocean_app.this"]["spec"][0]
    processes = {part["name"]: environment(part) for kind in PARTS for part in app[kind]}
    keys = {name: state[f"module.spaces[0].digitalocean_spaces_key.{name}"] for name in ("app", "backups")}
    for name, variables in processes.items():
        key = keys["backups" if name == "backup" else "app"]
        assert variables["STORAGE_ACCESS_KEY"] == key["access_key"]
        assert variables["STORAGE_SECRET_KEY"] == key["secret_key"]


def test_data_is_not_destroyed(applied: Project) -> None:
    arguments = applied.arguments("production", VARIABLES)
    output = applied.terraform("destroy", "-no-color", "-auto-approve", *arguments, passes=False)
    assert "Instance cannot be destroyed" in output
    for resource in (
        "digitalocean_database_cluster.this",
        "digitalocean_spaces_bucket.this",
        "digitalocean_spaces_bucket.backups",
        "digitalocean_spaces_bucket.copies",
    ):
        assert resource in output
    assert "module.database.digitalocean_database_cluster.this" in applied.terraform("state", "list")


def test_secrets_are_not_printed(applied: Project) -> None:
    arguments = applied.arguments("production", VARIABLES | {"web_instances": 3})
    output = applied.terraform("plan", "-no-color", *arguments) + applied.terraform("output", "-no-color")
    for secret in ("made-up-password", "made-up-secret_key", "s" * 60, "m" * 30):
        assert secret not in output


def test_storage_key_changes_without_a_gap(applied: Project) -> None:
    key, app = "module.spaces[0].digitalocean_spaces_key.app", "module.app[0].digitalocean_app.this"
    before = resources(applied)
    arguments = applied.arguments("production", VARIABLES)
    output = applied.terraform("apply", "-no-color", "-auto-approve", f"-replace={key}", *arguments)
    after = resources(applied)
    order = [output.index(line) for line in (f"{key}: Creating...", f"{app}: Modifications complete", "Destroying...")]
    assert order == sorted(order)
    assert after[key]["secret_key"] != before[key]["secret_key"]
    variables = environment(after[app]["spec"][0]["service"][0])
    assert variables["STORAGE_ACCESS_KEY"] == after[key]["access_key"]
    assert variables["STORAGE_SECRET_KEY"] == after[key]["secret_key"]
