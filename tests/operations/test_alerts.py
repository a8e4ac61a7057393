"""deploy/alerts.yml: Prometheus takes it, each alert fires when it should, and the runbook knows each."""

import re
import subprocess
from typing import Any

import pytest
import yaml
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from foundation.events.models import BACKUP_MADE, record_event
from tests.operations.places import ROOT
from tests.tools import need

PATH, CASES = ROOT / "deploy" / "alerts.yml", ROOT / "tests" / "operations" / "alerts.yml"
RULES: list[dict[str, Any]] = yaml.safe_load(PATH.read_text())["groups"][0]["rules"]
RUNBOOK = (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("words", [("check", "rules", str(PATH)), ("test", "rules", str(CASES))])
def test_prometheus_takes_it_and_each_fires_when_it_should(words: tuple[str, ...]) -> None:
    ran = subprocess.run([need("promtool"), *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_each_alert_has_a_case_and_a_line_in_the_runbook() -> None:
    names = [rule["alert"] for rule in RULES]
    assert sorted(set(re.findall(r"Kernex[A-Za-z]+", CASES.read_text()))) == sorted(names)
    assert re.findall(r"^\| `(Kernex[A-Za-z]+)` \|", RUNBOOK, re.MULTILINE) == names


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_it_says_how_urgent_it_is_and_where_to_read(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    page, _, section = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/operations.md"
    assert section in {title.lower().replace(" ", "-") for title in re.findall(r"^##+ (.+)$", RUNBOOK, re.MULTILINE)}


@pytest.mark.django_db
def test_it_asks_for_nothing_that_is_not_there(client: Client, settings: Settings) -> None:
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
