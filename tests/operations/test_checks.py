"""`manage.py check --deploy`: what it refuses, what it warns of, and that a right installation passes."""

import re

import pytest

from dev.check import PRODUCTION
from tests.operations.places import ROOT, Place, manage

BUCKET = {"STORAGE_BUCKET": "bundles", "STORAGE_ACCESS_KEY": "key", "STORAGE_SECRET_KEY": "s3cret"}
FINDINGS: dict[str, tuple[dict[str, str], set[str]]] = {
    "all is right": ({}, set()),
    "App Platform found by itself": ({"DIGITALOCEAN_APP_ID": "1"}, {"kernex.E001"}),
    "App Platform told": ({"KERNEX_ON_APP_PLATFORM": "true"}, {"kernex.E001"}),
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
    "TLS ends where nobody is trusted": ({"TRUSTED_PROXY": "false"}, {"kernex.W002"}),
    "every host": ({"ALLOWED_HOSTS": "*"}, {"kernex.W003"}),
    "another host": ({"ALLOWED_HOSTS": "fleet.example.org"}, {"kernex.W004"}),
    "a subdomain": ({"ALLOWED_HOSTS": ".example.com"}, set()),
    "an address of IPv6": ({"PUBLIC_URL": "https://[2001:db8::1]", "ALLOWED_HOSTS": "[2001:db8::1]"}, set()),
    "pages with tracebacks": ({"KERNEX_DEBUG": "true"}, {"security.W018"}),
}
# What Django says besides where there is no TLS at all.
DJANGOS = {"no TLS": {"security.W004", "security.W008", "security.W012", "security.W016"}}


@pytest.mark.parametrize("why", FINDINGS)
def test_a_finding_is_told(why: str) -> None:
    changes, expected = FINDINGS[why]
    environment = {"PATH": "/usr/bin:/bin", "DJANGO_SETTINGS_MODULE": "kernex.settings", **PRODUCTION, **changes}
    ran = manage(environment, "check", "--deploy", "--fail-level", "WARNING")
    found = set(re.findall(r"\(((?:kernex|security|\w+)\.[EW]\d+)\)", ran.err))
    assert found - DJANGOS.get(why, set()) == expected, ran.err
    assert ran.code == bool(found)
    # Each says what to do.
    assert ran.err.count("HINT: ") >= len([word for word in found if word.startswith("kernex.")])


def test_errors_stop_a_deployment_and_warnings_do_not() -> None:
    environment = {"PATH": "/usr/bin:/bin", "DJANGO_SETTINGS_MODULE": "kernex.settings", **PRODUCTION}
    assert manage(environment | {"KERNEX_INSTANCES": "2"}, "check", "--deploy").code == 1
    assert manage(environment | {"ALLOWED_HOSTS": "*"}, "check", "--deploy").code == 0


def test_a_laptop_is_left_alone(new_place: Place) -> None:
    """Without --deploy none of these is looked at."""
    ran = manage(new_place.environment(KERNEX_INSTANCES="2"), "check")
    assert ran.code == 0, ran.err


def test_every_check_has_its_test() -> None:
    made = set(re.findall(r'id="(kernex\.[EW]\d+)"', (ROOT / "operations/checks.py").read_text()))
    assert made == {word for _, found in FINDINGS.values() for word in found if word.startswith("kernex.")}
