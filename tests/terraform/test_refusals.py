"""Wrong values and broken code are refused with a message that names the reason."""

import pytest

from tests.terraform.project import Project

OTHER_STORAGE: dict[str, object] = {
    "settings": {"STORAGE_BUCKET": "fleet"},
    "secrets": {"STORAGE_ACCESS_KEY": "key", "STORAGE_SECRET_KEY": "secret"},
}
VALUES: dict[str, tuple[str, dict[str, object], str]] = {
    "an unknown environment": ("production", {"environment": "prod"}, "environment must be production or staging"),
    "an unknown stage": ("production", {"stage": "half"}, "stage must be base, open or complete"),
    "a base without an address that may grant": (
        "production", {"stage": "base", "database_addresses": []}, "stage base needs database_addresses",
    ),
    "a region without the services": ("production", {"region": "nyc1"}, "region must be a DigitalOcean region"),
    "an address as repository": (
        "production", {"github_repo": "https://github.com/a/b"}, "github_repo must be owner/name",
    ),
    "an address as domain": ("production", {"domain": "https://a.example.com/"}, "domain must be a bare name"),
    "a zone that does not contain the domain": (
        "production", {"domain": "a.example.com", "dns_zone": "example.org"}, "dns_zone must be the zone",
    ),
    "no address for alerts": ("production", {"alert_emails": []}, "alert_emails must be one or more"),
    "a name as database address": ("production", {"database_addresses": ["laptop"]}, "must contain IPv4 addresses"),
    "a firewall open to everyone": ("production", {"database_addresses": ["0.0.0.0/0"]}, "a firewall protects nothing"),
    "a bucket with capitals": ("production", {"bucket_name": "Kernex"}, "bucket_name must consist of 3 to 63"),
    "a secret among the settings": ("production", {"settings": {"SECRET_KEY": "x"}}, "that are not secret"),
    "a short secret key": ("production", {"secret_key": "short"}, "secret_key must have at least 50"),
    "a short metrics token": ("production", {"metrics_token": "short"}, "metrics_token must be null or have"),
    "an unknown web size": ("production", {"web_size": "basic-xxs"}, "web_size must be one of"),
    "one instance in production": ("production", {"web_instances": 1}, "must be 2 or more in production"),
    "half an instance": ("production", {"web_instances": 2.5}, "must be a whole number"),
    "scaling on shared CPUs": (
        "production", {"web_autoscaling": {"max_instances": 4}}, "needs a web_size with dedicated CPUs",
    ),
    "a maximum that is not above the minimum": (
        "production", {"web_size": "apps-d-1vcpu-1gb", "web_autoscaling": {"max_instances": 2}},
        "greater than web_instances",
    ),
    "production's processes with the smallest database": (
        "production", {"database_size": "db-s-1vcpu-1gb"}, "accepts 20 connections from the role",
    ),
    "a standby of the smallest database": ("staging", {"database_nodes": 2}, "must be 1 for a 1 GB node"),
    "more connections than the database accepts": (
        "production", {"web_instances": 12}, "accepts 95 connections from the role",
    ),
    "more connections than the database accepts, while it is open": (
        "production", {"web_instances": 12, "stage": "open"}, "accepts 95 connections from the role",
    ),
    "no storage at all": (
        "production", {"spaces_enabled": False, "backup_size": None}, "needs another storage: STORAGE_BUCKET",
    ),
    "a bucket without its key": (
        "production", {"spaces_enabled": False, "backup_size": None, "settings": {"STORAGE_BUCKET": "fleet"}},
        "STORAGE_ACCESS_KEY and STORAGE_SECRET_KEY in secrets",
    ),
    "a nightly backup without its bucket": (
        "production", {"spaces_enabled": False, **OTHER_STORAGE}, "backup_size must be null with spaces_enabled",
    ),
    "copies in a second region without Spaces": (
        "production", {"spaces_enabled": False, "backup_size": None, "second_region": {}, **OTHER_STORAGE},
        "second_region needs spaces_enabled",
    ),
    "an unknown backup size": ("production", {"backup_size": "basic-xxs"}, "backup_size must be one of"),
    "an hour that does not exist": ("production", {"backup_time": "24:00"}, "backup_time must be a time of day"),
    "backups kept for hours": ("production", {"backup_days": 0.5}, "backup_days must be a whole number of days"),
    "a pool larger than the database": ("production", {"connection_pool": 94}, "connection_pool must be from 1 to"),
    "a replica that is smaller than the database": (
        "production", {"read_replica_size": "db-s-1vcpu-2gb"}, "must be db-s-2vcpu-4gb or larger",
    ),
    "an unknown replica size": ("production", {"read_replica_size": "large"}, "read_replica_size must be one of db-s-"),
    "an unknown Valkey size": ("production", {"valkey_size": "db-s-4vcpu-8gb"}, "valkey_size must be one of"),
    "a CDN without Spaces": (
        "production", {"spaces_enabled": False, "backup_size": None, "cdn": True, **OTHER_STORAGE},
        "cdn needs spaces_enabled",
    ),
    "neither App Platform nor Kubernetes": ("production", {"app_platform": False}, "must run on one of the two"),
    "a cluster of one node": ("production", {"kubernetes": {"min_nodes": 1}}, "must be 2 or more"),
    "a failover to nowhere": (
        "production", {"failover_database_url": "postgresql://a:b@c:1/d"}, "needs second_region with serve = true",
    ),
    "the first region as second": (
        "production", {"second_region": {"region": "sfo3"}}, "must differ from region",
    ),
}  # fmt: skip

CODE: dict[str, tuple[str, str, str, str]] = {
    "an argument that the provider does not know": (
        "modules/app/main.tf", "http_port ", "http_prot ", 'An argument named "http_prot" is not expected here',
    ),
    "a block that the provider does not know": (
        "modules/app/main.tf", "liveness_health_check {", "liveness {", 'Blocks of type "liveness" are not expected',
    ),
    "a missing argument": (
        "modules/database/main.tf", '  engine               = "pg"\n', "", 'The argument "engine" is required',
    ),
    "a value of another type": (
        "modules/app/main.tf", "http_port          = 8000", 'http_port          = "http"', "a number is required",
    ),
    "an output that shows a password": (
        "outputs.tf", "  value       = module.database.password\n  sensitive   = true",
        "  value = module.database.password",
        "Output refers to sensitive values",
    ),
    "a reference to nothing": (
        "main.tf", "module.database.private_url", "module.database.url", "Unsupported attribute",
    ),
    "a type of firewall rule that does not exist": (
        "main.tf", 'type  = "app"', 'type  = "application"', "expected rule.type to be one of",
    ),
    "a type of job that does not exist": (
        "modules/app/main.tf", '"PRE_DEPLOY"', '"BEFORE"', "expected spec.job.kind to be one of",
    ),
    "an alert that does not exist": (
        "modules/app/main.tf", '"DEPLOYMENT_FAILED"', '"BROKEN"', "expected spec.alert.rule to be one of",
    ),
    "a key with a permission that does not exist": (
        "modules/spaces/main.tf", '"readwrite"', '"write"', "expected grant.permission to be one of",
    ),
    "a name that is too long": (
        "main.tf", '= "kernex-${var.environment}"\n', '= "kernex-of-the-whole-wide-world-${var.environment}"\n',
        "spec.name to be in the range (2 - 32)",
    ),
    "a module that lacks an input": ("main.tf", "  pool_size    = var.connection_pool\n", "", "is required"),
}  # fmt: skip


@pytest.mark.parametrize("case", VALUES, ids=str)
def test_wrong_values_are_refused(project: Project, case: str) -> None:
    example, variables, message = VALUES[case]
    assert message in project.refusal(example, **variables)


@pytest.mark.parametrize("case", CODE, ids=str)
def test_wrong_code_is_refused(project: Project, case: str) -> None:
    file, old, new, message = CODE[case]
    project.change(file, old, new)
    assert message in project.refusal()
