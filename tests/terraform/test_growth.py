"""What each variable in growth.tf adds, and that it is absent without the variable."""

from tests.terraform.test_plan import APP, CLUSTER, FIREWALL, Plan, rules, spec, variables

POOL = "module.database.digitalocean_database_connection_pool.web[0]"
NODES = "module.kubernetes[0].digitalocean_kubernetes_cluster.this"
REGION = "module.second_region[0]"


def test_nothing_is_added_by_default(planned: Plan) -> None:
    plan = planned()
    for address in (POOL, NODES):
        assert address not in plan
    assert [address for address in plan if address.startswith((REGION, "module.app_second"))] == []


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


def test_larger_sizes_and_standby(planned: Plan) -> None:
    plan = planned(database_size="db-s-4vcpu-8gb", database_nodes=2, web_size="apps-s-1vcpu-1gb", web_instances=4)
    assert (plan[CLUSTER]["size"], plan[CLUSTER]["node_count"]) == ("db-s-4vcpu-8gb", 2)
    assert spec(plan)["service"][0]["instance_count"] == 4
    assert plan["output.monthly_cost"]["items"] == {
        "web": 48, "scheduler": 5, "backup": 5, "database": 240, "spaces": 5,
    }  # fmt: skip


def test_web_scales_by_itself_on_dedicated_processors(planned: Plan) -> None:
    plan = planned(web_size="apps-d-1vcpu-1gb", web_autoscaling={"most": 4}, connection_pool=40)
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
