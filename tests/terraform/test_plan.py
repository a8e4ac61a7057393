"""The resources of a plan, one by one."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.live import ROOT

Plan = Callable[..., dict[str, dict[str, Any]]]
APP = "module.app[0].digitalocean_app.this"
CLUSTER = "module.database.digitalocean_database_cluster.this"
FIREWALL = "digitalocean_database_firewall.this[0]"
BUCKET = "module.spaces[0].digitalocean_spaces_bucket.this"


def spec(plan: dict[str, dict[str, Any]], app: str = APP) -> dict[str, Any]:
    content: dict[str, Any] = plan[app]["spec"][0]
    return content


def variables(component: dict[str, Any]) -> dict[str, tuple[str | None, str]]:
    """Return {name: (value, or None until it is known; type)}."""
    return {entry["key"]: (entry.get("value"), entry["type"]) for entry in component["env"]}


def test_web_is_two_small_instances_of_the_repository(planned: Plan) -> None:
    (web,) = spec(planned())["service"]
    assert (web["instance_count"], web["instance_size_slug"]) == (2, "apps-s-1vcpu-0.5gb")
    assert (web["http_port"], web["dockerfile_path"], web["run_command"]) == (8000, "Dockerfile", "web")
    assert web["github"] == [{"repo": "GouravMukherjee/kernex", "branch": "main", "deploy_on_push": True}]
    assert web["autoscaling"] == []


def test_web_is_checked_for_readiness_and_life(planned: Plan) -> None:
    (web,) = spec(planned())["service"]
    assert (web["health_check"][0]["http_path"], web["health_check"][0]["port"]) == ("/health", 8000)
    assert (web["liveness_health_check"][0]["http_path"], web["liveness_health_check"][0]["port"]) == (
        "/health/live", 8000,
    )  # fmt: skip
    stopping = web["termination"][0]
    # gunicorn's graceful_timeout is 25 s.
    assert stopping["drain_seconds"] + 25 <= stopping["grace_period_seconds"]


def test_migration_runs_before_each_deployment(planned: Plan) -> None:
    (job,) = spec(planned())["job"]
    assert (job["kind"], job["run_command"], job["github"][0]["deploy_on_push"]) == ("PRE_DEPLOY", "migrate", True)


def workers(plan: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {worker["name"]: worker for worker in spec(plan)["worker"]}


def test_one_scheduler_runs(planned: Plan) -> None:
    scheduler = workers(planned())["scheduler"]
    assert (scheduler["run_command"], scheduler["instance_count"]) == ("scheduler", 1)


def test_a_worker_backs_up_every_night(planned: Plan) -> None:
    backup = workers(planned())["backup"]
    assert backup["run_command"] == "nightly 03:17 backup s3://kernex-bundles-backups/nightly --keep 35"
    assert backup["instance_count"] == 1
    assert workers(planned(backup_time="22:00"))["backup"]["run_command"].startswith("nightly 22:00 ")
    assert workers(planned(backup_days=90))["backup"]["run_command"].endswith(" --keep 90")
    assert {alert["rule"] for alert in backup["alert"]} == {"MEM_UTILIZATION", "RESTART_COUNT"}


def test_no_backup_without_its_size(planned: Plan) -> None:
    plan = planned(backup_size=None)
    assert set(workers(plan)) == {"scheduler"}
    assert "backup" not in plan["output.monthly_cost"]["items"]


def components(plan: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The app's processes by name."""
    app = spec(plan)
    return {part["name"]: part for kind in ("service", "worker", "job") for part in app[kind]}


def test_secrets_are_secret_variables_of_every_process(planned: Plan) -> None:
    for name, component in components(planned()).items():
        secret = {key for key, (_, kind) in variables(component).items() if kind == "SECRET"}
        needed = {"SECRET_KEY", "DATABASE_URL", "STORAGE_SECRET_KEY"}
        assert secret == (needed if name == "backup" else needed | {"METRICS_TOKEN"})
        assert {entry["scope"] for entry in component["env"]} == {"RUN_TIME"}


def test_further_secrets_reach_every_process_that_serves(planned: Plan) -> None:
    plan = planned(secrets={"SECRET_KEY_FALLBACKS": "o" * 60})
    for name in ("web", "scheduler", "migrate"):
        assert variables(components(plan)[name])["SECRET_KEY_FALLBACKS"] == ("o" * 60, "SECRET")


def test_settings_are_those_that_the_control_plane_reads(planned: Plan) -> None:
    read = (ROOT / "kernex" / "settings.py").read_text() + (ROOT / "gunicorn.conf.py").read_text()
    known = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', read))
    plan = planned(connection_pool=20)
    for component in components(plan).values():
        assert set(variables(component)) - known == set()
    values = {name: value for name, (value, _) in variables(workers(plan)["scheduler"]).items()}
    assert values["STORAGE_BUCKET"] == "kernex-bundles"
    assert values["STORAGE_ENDPOINT_URL"] == "https://sfo3.digitaloceanspaces.com"
    assert values["STORAGE_REGION"] == "sfo3"
    assert values["KERNEX_ON_APP_PLATFORM"] == values["TRUSTED_PROXY"] == "true"
    assert values["KERNEX_INSTANCES"] == "2"
    assert (values["PUBLIC_URL"], values["ALLOWED_HOSTS"]) == ("${APP_URL}", "${APP_DOMAIN}")


def test_the_domain_is_in_every_setting_that_names_the_host(planned: Plan) -> None:
    plan = planned(domain="fleet.example.com", dns_zone="example.com")
    (domain,) = spec(plan)["domain"]
    assert (domain["name"], domain["zone"], domain["type"]) == ("fleet.example.com", "example.com", "PRIMARY")
    values = {name: value for name, (value, _) in variables(spec(plan)["service"][0]).items()}
    assert (values["PUBLIC_URL"], values["ALLOWED_HOSTS"]) == ("https://fleet.example.com", "fleet.example.com")
    (rule,) = plan["digitalocean_spaces_bucket_cors_configuration.bundles[0]"]["cors_rule"]
    assert rule["allowed_origins"] == ["https://fleet.example.com"]
    assert plan["digitalocean_uptime_check.health[0]"]["target"] == "https://fleet.example.com/health"


def test_failures_are_sent_to_the_alert_addresses(planned: Plan) -> None:
    plan = planned()
    people = ["operations@example.com"]
    app = spec(plan)
    alerts = [*app["alert"], *app["service"][0]["alert"], *workers(plan)["scheduler"]["alert"]]
    assert {alert["rule"] for alert in alerts} == {
        "DEPLOYMENT_FAILED", "DOMAIN_FAILED", "CPU_UTILIZATION", "MEM_UTILIZATION", "RESTART_COUNT",
    }  # fmt: skip
    assert {tuple(alert["destinations"][0]["emails"]) for alert in alerts} == {tuple(people)}
    watched = [plan[f'module.database.digitalocean_monitor_alert.database["{part}"]'] for part in ("cpu", "disk")]
    assert [alert["alerts"][0]["email"] for alert in watched] == [people, people]
    assert plan['digitalocean_uptime_alert.health["down"]']["notifications"][0]["email"] == people


def test_database_is_the_seeds(planned: Plan) -> None:
    plan = planned()
    cluster = plan[CLUSTER]
    assert (cluster["engine"], cluster["version"], cluster["size"]) == ("pg", "15", "db-s-2vcpu-4gb")
    assert (cluster["name"], cluster["region"], cluster["node_count"]) == ("kernex-db-production", "sfo3", 1)
    assert cluster["backup_restore"] == []
    assert plan["module.database.digitalocean_database_db.kernex[0]"]["name"] == "kernex_db"
    assert plan["module.database.digitalocean_database_user.app[0]"]["name"] == "kernex_app"


def test_app_and_database_share_a_network(planned: Plan) -> None:
    plan = planned()
    assert plan["digitalocean_vpc.this"]["region"] == "sfo3"
    main = (ROOT / "terraform" / "main.tf").read_text()
    assert main.count("vpc_id       = digitalocean_vpc.this.id") == 2
    assert len(spec(plan)["vpc"]) == 1


def rules(plan: dict[str, dict[str, Any]]) -> list[tuple[str, str | None]]:
    return sorted(((rule["type"], rule.get("value")) for rule in plan[FIREWALL]["rule"]), key=str)


def test_the_database_accepts_only_the_app_and_the_listed_addresses(planned: Plan) -> None:
    # The app's id is known only after the apply.
    assert rules(planned()) == [("app", None), ("ip_addr", "203.0.113.7")]


def test_first_installation_opens_the_database_only_for_its_stage(planned: Plan) -> None:
    base, opened = planned(stage="base"), planned(stage="open")
    assert APP not in base
    assert rules(base) == [("ip_addr", "203.0.113.7")]
    assert APP in opened
    assert FIREWALL not in opened
    assert "grant_perms" in str(base["output.next_step"])
    assert "stage = complete" in str(opened["output.next_step"])


def test_bucket_is_private_versioned_and_cleaned_up(planned: Plan) -> None:
    plan = planned()
    bucket = plan[BUCKET]
    assert (bucket["name"], bucket["acl"], bucket["region"]) == ("kernex-bundles", "private", "sfo3")
    assert bucket["versioning"] == [{"enabled": True}]
    lifecycle = {rule["id"]: rule for rule in bucket["lifecycle_rule"]}
    assert lifecycle["kernex-abandoned-parts"]["abort_incomplete_multipart_upload_days"] == 7
    assert lifecycle["kernex-leftovers"]["prefix"] == "uploads/"
    assert lifecycle["deleted-versions"]["noncurrent_version_expiration"] == [{"days": 30}]
    (rule,) = plan["digitalocean_spaces_bucket_cors_configuration.bundles[0]"]["cors_rule"]
    assert (sorted(rule["allowed_methods"]), rule["expose_headers"]) == (["GET", "PUT"], ["ETag"])


def test_the_key_opens_only_that_bucket(planned: Plan) -> None:
    key = planned()["module.spaces[0].digitalocean_spaces_key.app"]
    assert key["grant"] == [{"bucket": "kernex-bundles", "permission": "readwrite"}]


def test_backups_have_their_own_bucket_and_key(planned: Plan) -> None:
    plan = planned()
    bucket = plan["module.spaces[0].digitalocean_spaces_bucket.backups"]
    assert (bucket["name"], bucket["acl"], bucket["versioning"]) == (
        "kernex-bundles-backups", "private", [{"enabled": True}],
    )  # fmt: skip
    assert plan["module.spaces[0].digitalocean_spaces_key.backups"]["grant"] == [
        {"bucket": "kernex-bundles-backups", "permission": "readwrite"},
        {"bucket": "kernex-bundles", "permission": "read"},
    ]


def test_old_backups_expire_and_their_blobs_stay(planned: Plan) -> None:
    bucket = planned(backup_days=90)["module.spaces[0].digitalocean_spaces_bucket.backups"]
    (rule,) = [rule for rule in bucket["lifecycle_rule"] if rule["id"] == "old-backups"]
    assert (rule["prefix"], rule["expiration"][0]["days"]) == ("nightly/kernex-", 90)


def test_another_storage_replaces_spaces(planned: Plan) -> None:
    plan = planned(
        spaces_enabled=False, backup_size=None,
        settings={"STORAGE_BUCKET": "fleet", "STORAGE_ENDPOINT_URL": "https://s3.example.com"},
        secrets={"STORAGE_ACCESS_KEY": "key", "STORAGE_SECRET_KEY": "secret"},
    )  # fmt: skip
    assert [address for address in plan if "spaces" in address] == []
    assert "spaces" not in plan["output.monthly_cost"]["items"]
    for component in components(plan).values():
        assert variables(component)["STORAGE_BUCKET"] == ("fleet", "GENERAL")
        assert variables(component)["STORAGE_SECRET_KEY"] == ("secret", "SECRET")


def test_outputs_are_the_seeds(planned: Plan) -> None:
    seed = {"app_url", "database_host", "database_port", "database_user", "database_password"}
    assert {f"output.{name}" for name in seed} <= set(planned())


def test_cost_is_added_up_beside_the_seeds_budget(planned: Plan) -> None:
    cost = planned()["output.monthly_cost"]
    assert cost["items"] == {"web": 10, "scheduler": 5, "backup": 5, "database": 60, "spaces": 5}
    assert (cost["total"], cost["seed_budget"]["total"], cost["above_seed"]) == (85, 42, 43)
    larger = planned(web_size="apps-d-1vcpu-1gb", web_autoscaling={"max_instances": 4}, connection_pool=40)
    assert larger["output.monthly_cost"]["total"] == 2 * 34 + 5 + 5 + 60 + 5
    assert larger["output.monthly_cost"]["maximum"] == 4 * 34 + 5 + 5 + 60 + 5


def test_the_seeds_example_stays_within_its_budget(planned: Plan) -> None:
    plan = planned("seed")
    cost = plan["output.monthly_cost"]
    assert cost["total"] <= cost["seed_budget"]["total"] == 42
    assert spec(plan)["service"][0]["instance_count"] == 2
    assert {"scheduler", "backup"} == set(workers(plan))
    assert plan[BUCKET]["name"] == "kernex-bundles"
    assert f"{cost['total']} dollars a month" in (ROOT / "terraform" / "seed.tfvars.example").read_text()


def test_staging_is_the_same_and_smaller(planned: Plan) -> None:
    production, staging = planned(), planned("staging")
    assert set(staging) == set(production)
    assert set(workers(staging)) == {"scheduler"}
    assert (staging[CLUSTER]["size"], staging[CLUSTER]["name"]) == ("db-s-1vcpu-1gb", "kernex-db-staging")
    assert staging[BUCKET]["name"] == "kernex-bundles-staging"
    assert spec(staging)["service"][0]["github"][0]["branch"] == "staging"
    assert staging["output.monthly_cost"]["total"] < production["output.monthly_cost"]["total"]


def test_staging_starts_from_productions_backup(planned: Plan) -> None:
    plan = planned("staging", restore_from={"cluster": "kernex-db-production", "at": "2026-01-31T03:00:00Z"})
    assert plan[CLUSTER]["backup_restore"] == [
        {"database_name": "kernex-db-production", "backup_created_at": "2026-01-31T03:00:00Z"}
    ]
    # Database and role come with the backup.
    assert [name for name in plan if "digitalocean_database_db" in name or "digitalocean_database_user" in name] == []


@pytest.mark.parametrize("example", ["production", "staging", "seed"])
def test_sizes_fit_into_the_databases_connections(planned: Plan, example: str) -> None:
    connections = planned(example)["output.connections"]
    assert 0 < connections["needed"] <= connections["limit"]
