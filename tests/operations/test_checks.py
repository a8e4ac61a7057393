"""`manage.py check --deploy`: its errors and warnings, and a correct installation that passes."""

import re

import pytest

from dev.check import PRODUCTION
from tests.operations.databases import ROOT, Database, manage

BUCKET = {"STORAGE_BUCKET": "bundles", "STORAGE_ACCESS_KEY": "key", "STORAGE_SECRET_KEY": "s3cret"}
FINDINGS: dict[str, tuple[dict[str, str], set[str]]] = {
    "a correct installation": ({}, set()),
    "App Platform detected": ({"DIGITALOCEAN_APP_ID": "1"}, {"kernex.E001"}),
    "App Platform configured": ({"KERNEX_ON_APP_PLATFORM": "true"}, {"kernex.E001"}),
    "two machines, one disk": ({"KERNEX_INSTANCES": "2"}, {"kernex.E002"}),
    "a bucket instead of a disk": ({"KERNEX_INSTANCES": "2", "DIGITALOCEAN_APP_ID": "1", **BUCKET}, set()),
    "a bucket without TLS": ({**BUCKET, "STORAGE_ENDPOINT_URL": "http://s3.example.com"}, {"kernex.W005"}),
    "a bucket without TLS behind one with it": (
        {
            **BUCKET,
            "STORAGE_ENDPOINT_URL": "http://s3.internal",
            "STORAGE_PUBLIC_ENDPOINT_URL": "https://s3.example.com",
        },
        set(),
    ),
    "no TLS": ({"PUBLIC_URL": "http://fleet.example.com"}, {"kernex.W001"}),
    "TLS ends at an untrusted proxy": ({"TRUSTED_PROXY": "false"}, {"kernex.W002"}),
    "every host": ({"ALLOWED_HOSTS": "*"}, {"kernex.W003"}),
    "another host": ({"ALLOWED_HOSTS": "fleet.example.org"}, {"kernex.W004"}),
    "a subdomain": ({"ALLOWED_HOSTS": ".example.com"}, set()),
    "an address of IPv6": ({"PUBLIC_URL": "https://[2001:db8::1]", "ALLOWED_HOSTS": "[2001:db8::1]"}, set()),
    "pages with tracebacks": ({"KERNEX_DEBUG": "true"}, {"security.W018"}),
}
# Django's own warnings where there is no TLS.
DJANGO_FINDINGS = {"no TLS": {"security.W004", "security.W008", "security.W012", "security.W016"}}


@pytest.mark.parametrize("why", FINDINGS)
def test_each_installation_has_exactly_its_findings(why: str) -> None:
    changes, expected = FINDINGS[why]
    environment = {"PATH": "/usr/bin:/bin", "DJANGO_SETTINGS_MODULE": "kernex.settings", **PRODUCTION, **changes}
    result = manage(environment, "check", "--deploy", "--fail-level", "WARNING")
    finding_ids = set(re.findall(r"\(((?:kernex|security|\w+)\.[EW]\d+)\)", result.err))
    assert finding_ids - DJANGO_FINDINGS.get(why, set()) == expected, result.err
    assert result.code == bool(finding_ids)
    # Each finding has a hint.
    assert result.err.count("HINT: ") >= len(
        [finding_id for finding_id in finding_ids if finding_id.startswith("kernex.")]
    )


def test_errors_stop_a_deployment_and_warnings_do_not() -> None:
    environment = {"PATH": "/usr/bin:/bin", "DJANGO_SETTINGS_MODULE": "kernex.settings", **PRODUCTION}
    assert manage(environment | {"KERNEX_INSTANCES": "2"}, "check", "--deploy").code == 1
    assert manage(environment | {"ALLOWED_HOSTS": "*"}, "check", "--deploy").code == 0


def test_a_development_machine_has_no_findings(newest_database: Database) -> None:
    """Without --deploy, none of these checks runs."""
    result = manage(newest_database.environment(KERNEX_INSTANCES="2"), "check")
    assert result.code == 0, result.err


def test_every_check_is_tested() -> None:
    check_ids = set(re.findall(r'id="(kernex\.[EW]\d+)"', (ROOT / "operations/checks.py").read_text()))
    assert check_ids == {
        finding_id
        for _, finding_ids in FINDINGS.values()
        for finding_id in finding_ids
        if finding_id.startswith("kernex.")
    }
