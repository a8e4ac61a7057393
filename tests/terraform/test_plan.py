"""What a plan would make, resource by resource."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.live import ROOT

Plan = Callable[..., dict[str, dict[str, Any]]]
APP = "module.app[0].digitalocean_app.this"
CLUSTER = "module.database.digitalocean_database_cluster.this"
FIREWALL = "digitalocean_database_firewall.this[0]"
BUCKET = "module.bundles.digitalocean_spaces_bucket.this"


def spec(plan: dict[str, dict[str, Any]], app: str = APP) -> dict[str, Any]:
    found: dict[str, Any] = plan[app]["spec"][0]
    return found


def variables(component: dict[str, Any]) -> dict[str, tuple[str | None, str]]:
    """name: (value or None until it is known, kind)."""
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


def test_one_scheduler_works(planned: Plan) -> None:
    (worker,) = spec(planned())["worker"]
    assert (worker["name"], worker["run_command"], worker["instance_count"]) == ("scheduler", "scheduler", 1)


def test_secrets_are_secret_variables_of_every_process(planned: Plan) -> None:
    app = spec(planned())
    for component in (*app["service"], *app["worker"], *app["job"]):
        kinds = {name: kind for name, (_, kind) in variables(component).items()}
        secret = {name for name, kind in kinds.items() if kind == "SECRET"}
        assert secret == {"SECRET_KEY", "DATABASE_URL", "STORAGE_SECRET_KEY", "METRICS_TOKEN"}
        assert {entry["scope"] for entry in component["env"]} == {"RUN_TIME"}


def test_further_secrets_reach_every_process_while_a_key_changes(planned: Plan) -> None:
    app = spec(planned(secrets={"SECRET_KEY_FALLBACKS": "o" * 60}))
    for component in (*app["service"], *app["worker"], *app["job"]):
        assert variables(component)["SECRET_KEY_FALLBACKS"] == ("o" * 60, "SECRET")


def test_settings_are_those_that_the_control_plane_reads(planned: Plan) -> None:
    read = (ROOT / "kernex" / "settings.py").read_text() + (ROOT / "gunicorn.conf.py").read_text()
    known = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', read))
    app = spec(planned(connection_pool=20))
    for component in (*app["service"], *app["worker"], *app["job"]):
        assert set(variables(component)) - known == set()
    told = {name: value for name, (value, _) in variables(app["worker"][0]).items()}
    assert told["STORAGE_BUCKET"] == "kernex-bundles"
    assert told["STORAGE_ENDPOINT_URL"] == "https://sfo3.digitaloceanspaces.com"
    assert told["STORAGE_REGION"] == "sfo3"
    assert (told["KERNEX_ON_APP_PLATFORM"], told["KERNEX_INSTANCES"], told["TRUSTED_PROXY"]) == ("true", "2", "true")
    assert (told["PUBLIC_URL"], told["ALLOWED_HOSTS"]) == ("${APP_URL}", "${APP_DOMAIN}")


def test_domain_is_served_and_named_everywhere(planned: Plan) -> None:
    plan = planned(domain="fleet.example.com", dns_zone="example.com")
    (domain,) = spec(plan)["domain"]
    assert (domain["name"], domain["zone"], domain["type"]) == ("fleet.example.com", "example.com", "PRIMARY")
    told = {name: value for name, (value, _) in variables(spec(plan)["service"][0]).items()}
    assert (told["PUBLIC_URL"], told["ALLOWED_HOSTS"]) == ("https://fleet.example.com", "fleet.example.com")
    (rule,) = plan["digitalocean_spaces_bucket_cors_configuration.bundles[0]"]["cors_rule"]
    assert rule["allowed_origins"] == ["https://fleet.example.com"]
    assert plan["digitalocean_uptime_check.health[0]"]["target"] == "https://fleet.example.com/health"


def test_people_hear_of_what_fails(planned: Plan) -> None:
    plan = planned()
    people = ["operations@example.com"]
    app = spec(plan)
    alerts = [*app["alert"], *app["service"][0]["alert"], *app["worker"][0]["alert"]]
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


def test_app_and_database_meet_in_one_network(planned: Plan) -> None:
    plan = planned()
    assert plan["digitalocean_vpc.this"]["region"] == "sfo3"
    main = (ROOT / "terraform" / "main.tf").read_text()
    assert main.count("vpc_id       = digitalocean_vpc.this.id") == 2
    assert len(spec(plan)["vpc"]) == 1


def rules(plan: dict[str, dict[str, Any]]) -> list[tuple[str, str | None]]:
    return sorted(((rule["type"], rule.get("value")) for rule in plan[FIREWALL]["rule"]), key=str)


def test_database_admits_the_app_by_id_and_named_addresses(planned: Plan) -> None:
    # The app's id is known after the apply.
    assert rules(planned()) == [("app", None), ("ip_addr", "203.0.113.7")]


def test_first_installation_opens_the_database_only_for_its_stage(planned: Plan) -> None:
    base, opened = planned(stage="base"), planned(stage="open")
    assert APP not in base
    assert rules(base) == [("ip_addr", "203.0.113.7")]
    assert APP in opened
    assert FIREWALL not in opened
    assert "grant_perms" in str(base["output.next_step"])
    assert "stage = complete" in str(opened["output.next_step"])


def test_bucket_is_closed_versioned_and_tidied(planned: Plan) -> None:
    plan = planned()
    bucket = plan[BUCKET]
    assert (bucket["name"], bucket["acl"], bucket["region"]) == ("kernex-bundles", "private", "sfo3")
    assert bucket["versioning"] == [{"enabled": True}]
    kept = {rule["id"]: rule for rule in bucket["lifecycle_rule"]}
    assert kept["kernex-abandoned-parts"]["abort_incomplete_multipart_upload_days"] == 7
    assert kept["kernex-leftovers"]["prefix"] == "uploads/"
    assert kept["deleted-versions"]["noncurrent_version_expiration"] == [{"days": 30}]
    (rule,) = plan["digitalocean_spaces_bucket_cors_configuration.bundles[0]"]["cors_rule"]
    assert (sorted(rule["allowed_methods"]), rule["expose_headers"]) == (["GET", "PUT"], ["ETag"])


def test_key_reaches_that_bucket_alone(planned: Plan) -> None:
    key = planned()["module.bundles.digitalocean_spaces_key.app"]
    assert key["grant"] == [{"bucket": "kernex-bundles", "permission": "readwrite"}]


def test_backups_lie_apart_under_a_key_of_their_own(planned: Plan) -> None:
    plan = planned()
    bucket = plan["module.bundles.digitalocean_spaces_bucket.backups"]
    assert (bucket["name"], bucket["acl"], bucket["versioning"]) == (
        "kernex-bundles-backups", "private", [{"enabled": True}],
    )  # fmt: skip
    assert plan["module.bundles.digitalocean_spaces_key.backups"]["grant"] == [
        {"bucket": "kernex-bundles-backups", "permission": "readwrite"},
        {"bucket": "kernex-bundles", "permission": "read"},
    ]


def test_outputs_are_the_seeds(planned: Plan) -> None:
    seed = {"app_url", "database_host", "database_port", "database_user", "database_password"}
    assert {f"output.{name}" for name in seed} <= set(planned())


def test_cost_is_added_up_beside_the_seeds_budget(planned: Plan) -> None:
    cost = planned()["output.monthly_cost"]
    assert cost["items"] == {"web": 10, "scheduler": 5, "database": 60, "bundles": 5}
    assert (cost["total"], cost["seed_budget"]["total"], cost["above_seed"]) == (80, 42, 38)
    larger = planned(web_size="apps-d-1vcpu-1gb", web_autoscaling={"most": 4}, connection_pool=40)
    assert larger["output.monthly_cost"]["total"] == 2 * 34 + 5 + 60 + 5
    assert larger["output.monthly_cost"]["most"] == 4 * 34 + 5 + 60 + 5


def test_staging_is_the_same_and_smaller(planned: Plan) -> None:
    production, staging = planned(), planned("staging")
    assert set(staging) == set(production)
    assert (staging[CLUSTER]["size"], staging[CLUSTER]["name"]) == ("db-s-1vcpu-1gb", "kernex-db-staging")
    assert staging[BUCKET]["name"] == "kernex-bundles-staging"
    assert spec(staging)["service"][0]["github"][0]["branch"] == "staging"
    assert staging["output.monthly_cost"]["total"] < production["output.monthly_cost"]["total"]


def test_staging_begins_with_productions_backup(planned: Plan) -> None:
    plan = planned("staging", restore_from={"cluster": "kernex-db-production", "at": "2026-01-31T03:00:00Z"})
    assert plan[CLUSTER]["backup_restore"] == [
        {"database_name": "kernex-db-production", "backup_created_at": "2026-01-31T03:00:00Z"}
    ]
    # Database and role come with the backup.
    assert [name for name in plan if "digitalocean_database_db" in name or "digitalocean_database_user" in name] == []


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_sizes_fit_into_the_databases_connections(planned: Plan, environment: str) -> None:
    told = planned(environment)["output.connections"]
    assert 0 < told["needed"] <= told["limit"]
