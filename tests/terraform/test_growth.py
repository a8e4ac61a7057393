"""Each variable in growth.tf adds its resources, which are absent without it."""

from typing import Any

import pytest

from tests.terraform.project import Project
from tests.terraform.test_plan import APP, CLUSTER, FIREWALL, Plan, rules, spec, variables

POOL = "module.database.digitalocean_database_connection_pool.web[0]"
REPLICA = "module.database.digitalocean_database_replica.read[0]"
VALKEY = "digitalocean_database_cluster.valkey[0]"
CDN = "module.spaces[0].digitalocean_cdn.this[0]"
NODES = "module.kubernetes[0].digitalocean_kubernetes_cluster.this"
REGION = "module.second_region[0]"


def test_nothing_is_added_by_default(planned: Plan) -> None:
    plan = planned()
    for address in (POOL, REPLICA, VALKEY, CDN, NODES):
        assert address not in plan
    absent = (REGION, "module.app_second", "digitalocean_database_firewall.extension")
    assert [address for address in plan if address.startswith(absent)] == []


def test_only_the_web_server_uses_the_pool(planned: Plan) -> None:
    plan = planned(connection_pool=40)
    pool = plan[POOL]
    assert (pool["mode"], pool["size"], pool["db_name"], pool["user"]) == (
        "transaction", 40, "kernex_db", "kernex_app",
    )  # fmt: skip
    app = spec(plan)
    assert variables(app["service"][0])["DATABASE_PREPARE"] == ("false", "GENERAL")
    for direct in (*app["worker"], *app["job"]):
        assert "DATABASE_PREPARE" not in variables(direct)


def extension_rules(plan: dict[str, dict[str, Any]], extension: str) -> list[str]:
    """Return the types of the sources that the firewall of an optional part allows."""
    return sorted(rule["type"] for rule in plan[f'digitalocean_database_firewall.extension["{extension}"]']["rule"])


def test_replica_is_beside_the_primary(planned: Plan) -> None:
    plan = planned(read_replica_size="db-s-4vcpu-8gb")
    assert (plan[REPLICA]["size"], plan[REPLICA]["region"]) == ("db-s-4vcpu-8gb", "sfo3")
    assert plan["output.monthly_cost"]["items"]["read_replica"] == 120


def test_control_plane_can_use_a_promoted_replica(planned: Plan) -> None:
    url = "postgresql://kernex_app:p@promoted.example.com:25060/kernex_db?sslmode=require"
    app = spec(planned(secrets={"DATABASE_URL": url}, backup_size=None))
    for part in (*app["service"], *app["worker"], *app["job"]):
        assert variables(part)["DATABASE_URL"] == (url, "SECRET")


def test_valkey_evicts_old_entries(planned: Plan) -> None:
    plan = planned(valkey_size="db-s-1vcpu-1gb")
    assert (plan[VALKEY]["engine"], plan[VALKEY]["size"]) == ("valkey", "db-s-1vcpu-1gb")
    assert plan[VALKEY]["eviction_policy"] == "allkeys_lru"
    assert plan["output.monthly_cost"]["items"]["valkey"] == 15


@pytest.mark.parametrize(
    ("extension", "variable", "size"),
    [("read_replica", "read_replica_size", "db-s-2vcpu-4gb"), ("valkey", "valkey_size", "db-s-1vcpu-1gb")],
)
def test_only_the_app_and_named_addresses_reach_an_extension(
    planned: Plan, extension: str, variable: str, size: str
) -> None:
    assert extension_rules(planned(**{variable: size}), extension) == ["app", "ip_addr"]
    assert extension_rules(planned(**{variable: size}, stage="base"), extension) == ["ip_addr"]
    assert extension_rules(planned(**{variable: size}, stage="open"), extension) == ["app", "ip_addr"]
    assert extension_rules(planned(**{variable: size}, kubernetes={}), extension) == ["app", "ip_addr", "k8s"]


def test_cdn_serves_the_bundles_bucket(planned: Plan) -> None:
    plan = planned(cdn=True)
    assert plan[CDN]["ttl"] == 604800
    assert plan["output.monthly_cost"]["total"] == planned()["output.monthly_cost"]["total"]


UNUSED = {
    "read_replica_size": ("db-s-2vcpu-4gb", "Kernex does not use the replica yet"),
    "valkey_size": ("db-s-1vcpu-1gb", "Kernex does not use Valkey yet"),
    "cdn": (True, "Kernex does not use the CDN endpoint yet"),
}


@pytest.mark.parametrize("variable", UNUSED)
def test_plan_warns_about_a_part_that_kernex_does_not_use(project: Project, variable: str) -> None:
    value, warning = UNUSED[variable]
    output = project.warnings(**{variable: value})
    assert f"{variable} is on, but {warning}" in output
    assert output.count("does not use") == 1


def test_plan_does_not_warn_by_default(project: Project) -> None:
    assert "Warning" not in project.warnings()


@pytest.mark.parametrize("variable", UNUSED)
def test_control_plane_gets_nothing_of_an_unused_part(planned: Plan, variable: str) -> None:
    plan = planned(**{variable: UNUSED[variable][0]})
    app, app_without = spec(plan), spec(planned())
    for kind in ("service", "worker", "job"):
        assert [variables(part) for part in app[kind]] == [variables(part) for part in app_without[kind]]


def test_larger_sizes_and_standby(planned: Plan) -> None:
    plan = planned(database_size="db-s-4vcpu-8gb", database_nodes=2, web_size="apps-s-1vcpu-1gb", web_instances=4)
    assert (plan[CLUSTER]["size"], plan[CLUSTER]["node_count"]) == ("db-s-4vcpu-8gb", 2)
    assert spec(plan)["service"][0]["instance_count"] == 4
    assert plan["output.monthly_cost"]["items"] == {
        "web": 48, "scheduler": 5, "backup": 5, "database": 240, "spaces": 5,
    }  # fmt: skip


def test_web_instances_scale_automatically_on_dedicated_cpus(planned: Plan) -> None:
    plan = planned(web_size="apps-d-1vcpu-1gb", web_autoscaling={"max_instances": 4}, connection_pool=40)
    (web,) = spec(plan)["service"]
    assert web["instance_count"] is None
    assert web["autoscaling"] == [
        {"min_instance_count": 2, "max_instance_count": 4, "metrics": [{"cpu": [{"percent": 70}]}]}
    ]
    assert variables(web)["KERNEX_INSTANCES"] == ("4", "GENERAL")
    assert "AUTOSCALE_FAILED" in {alert["rule"] for alert in spec(plan)["alert"]}


def test_kubernetes_runs_beside_the_app(planned: Plan) -> None:
    plan = planned(kubernetes={"registry": "kernex"})
    cluster = plan[NODES]
    (pool,) = cluster["node_pool"]
    assert (pool["auto_scale"], pool["min_nodes"], pool["max_nodes"], pool["size"]) == (True, 2, 4, "s-2vcpu-4gb")
    assert (cluster["region"], cluster["registry_integration"], cluster["surge_upgrade"]) == ("sfo3", True, True)
    assert [kind for kind, _ in rules(plan)] == ["app", "ip_addr", "k8s"]
    assert plan["output.monthly_cost"]["items"]["kubernetes"] == 2 * 24 + 12 + 20


def test_kubernetes_replaces_the_app(planned: Plan) -> None:
    plan = planned(kubernetes={}, app_platform=False, domain="fleet.example.com")
    assert APP not in plan
    assert [rule["type"] for rule in plan[FIREWALL]["rule"]].count("app") == 0
    assert plan["digitalocean_uptime_check.health[0]"]["target"] == "https://fleet.example.com/health"


def test_second_region_has_a_replica_and_a_bucket_of_copies(planned: Plan) -> None:
    plan = planned(second_region={})
    assert plan[f"{REGION}.digitalocean_vpc.this"]["region"] == "nyc3"
    replica = plan[f"{REGION}.digitalocean_database_replica.standby[0]"]
    assert (replica["region"], replica["size"]) == ("nyc3", "db-s-2vcpu-4gb")
    bucket = plan[f"{REGION}.digitalocean_spaces_bucket.copies"]
    assert (bucket["name"], bucket["versioning"]) == ("kernex-bundles-nyc3", [{"enabled": True}])
    assert "module.app_second[0].digitalocean_app.this" not in plan


def test_second_region_serves_without_scheduler_and_backup(planned: Plan) -> None:
    plan = planned(second_region={"serve": True})
    app = spec(plan, "module.app_second[0].digitalocean_app.this")
    assert (app["region"], len(app["service"]), app["worker"], app["job"]) == ("nyc", 1, [], [])
    assert [rule["type"] for rule in plan[FIREWALL]["rule"]].count("app") == 2
    (rule,) = plan["digitalocean_spaces_bucket_cors_configuration.second[0]"]["cors_rule"]
    assert rule["allowed_methods"] == ["GET", "PUT"]


def test_second_region_takes_over_with_its_replica_and_bucket(planned: Plan) -> None:
    url = "postgresql://kernex_app:p@promoted.example.com:25060/kernex_db?sslmode=require"
    plan = planned(second_region={"serve": True}, failover_database_url=url)
    app = spec(plan, "module.app_second[0].digitalocean_app.this")
    for component in (*app["service"], *app["worker"], *app["job"]):
        values = variables(component)
        assert values["DATABASE_URL"] == (url, "SECRET")
        assert values["STORAGE_BUCKET"] == ("kernex-bundles-nyc3", "GENERAL")
        assert values["STORAGE_ENDPOINT_URL"] == ("https://nyc3.digitaloceanspaces.com", "GENERAL")
    assert [part["name"] for part in (*app["worker"], *app["job"])] == ["scheduler", "migrate"]
    assert f"{REGION}.digitalocean_database_replica.standby[0]" not in plan
