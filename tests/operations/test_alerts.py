"""deploy/alerts.yml: Prometheus accepts it, each alert fires when it should, and the runbook documents each."""

import re
import subprocess
from typing import Any

import pytest
import yaml
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from foundation.events.models import BACKUP_MADE, record_event
from tests.operations.databases import ROOT
from tests.tools import need

PATH, CASES = ROOT / "deploy" / "alerts.yml", ROOT / "tests" / "operations" / "alerts.yml"
RULES: list[dict[str, Any]] = yaml.safe_load(PATH.read_text())["groups"][0]["rules"]
RUNBOOK = (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("arguments", [("check", "rules", str(PATH)), ("test", "rules", str(CASES))])
def test_prometheus_accepts_the_rules_and_each_alert_fires_when_it_should(arguments: tuple[str, ...]) -> None:
    completed = subprocess.run([need("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_each_alert_has_a_test_case_and_a_runbook_entry() -> None:
    names = [rule["alert"] for rule in RULES]
    assert sorted(set(re.findall(r"Kernex[A-Za-z]+", CASES.read_text()))) == sorted(names)
    assert re.findall(r"^\| `(Kernex[A-Za-z]+)` \|", RUNBOOK, re.MULTILINE) == names


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_each_alert_has_a_severity_and_a_runbook_link(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    page, _, section = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/operations.md"
    assert section in {title.lower().replace(" ", "-") for title in re.findall(r"^##+ (.+)$", RUNBOOK, re.MULTILINE)}


@pytest.mark.django_db
def test_each_alert_uses_existing_metrics_and_labels(client: Client, settings: Settings) -> None:
    record_event(BACKUP_MADE, "", actor="manage.py")
    settings.METRICS_TOKEN = "a-token-for-scrapers-alone"
    client.get("/api/v1/devices")
    text = client.get("/metrics", headers={"Authorization": f"Bearer {settings.METRICS_TOKEN}"}).content.decode()
    families = list(text_string_to_metric_families(text))
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    labels = {name for family in families for sample in family.samples for name in sample.labels}
    for rule in RULES:
        assert set(re.findall(r"kernex_[a-z_]+", rule["expr"])) <= names, rule["alert"]
        assert set(re.findall(r"[{, ]([a-z]+)[=!]~?=?\"", rule["expr"])) <= labels | {"job", "outcome"}, rule["alert"]
