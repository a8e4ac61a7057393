"""The Kubernetes manifests: valid by the API's schemas, consistent with each other and with the image."""

import functools
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.live import ROOT
from tests.terraform.wheels import wheel

FOLDER = ROOT / "terraform" / "kubernetes"
Object = dict[str, Any]
VERSIONS = ["1.34", "1.35", "1.36"]


def kustomization() -> Object:
    content: Object = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return content


def objects() -> list[Object]:
    """All objects that are applied."""
    names = kustomization()["resources"]
    return [each for name in names for each in yaml.safe_load_all((FOLDER / name).read_text())]


def manifest_object(kind: str, name: str) -> Object:
    (only,) = [each for each in objects() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return only


@functools.cache
def definitions(version: str) -> Any:
    """The schemas of a Kubernetes minor version. Unknown fields are errors."""
    with zipfile.ZipFile(wheel("kubernetes-validate")) as archive:
        name = f"kubernetes_validate/kubernetes-json-schema/v{version}.0-local-strict/_definitions.json"
        return json.loads(archive.read(name))


def problems(each: Object, version: str) -> list[str]:
    """The errors with which the API of that version would refuse an object."""
    group, _, api = each["apiVersion"].rpartition("/")
    name = f"io.k8s.api.{group.split('.')[0] or 'core'}.{api}.{each['kind']}"
    schemas = definitions(version)
    assert name in schemas["$defs"], f"{version} does not know {name}"
    schema = {key: schemas[key] for key in ("$schema", "$id", "$defs")} | {"$ref": f"#/$defs/{name}"}
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(each)]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_api_accepts_every_object(version: str) -> None:
    errors = {f"{each['kind']} {each['metadata']['name']}": problems(each, version) for each in objects()}
    assert {name: messages for name, messages in errors.items() if messages} == {}
    assert {name.split()[0] for name in errors} == {
        "Namespace", "Job", "CronJob", "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget",
        "NetworkPolicy", "Ingress",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("web.yaml", "readinessProbe:", "readynessProbe:"),
        ("web.yaml", "containerPort: 8000", 'containerPort: "eight thousand"'),
        (
            "web.yaml",
            "            httpGet:\n              path: /health\n",
            "            get:\n              path: /health\n",
        ),
        ("web.yaml", "  selector:\n    matchLabels:", "  selectors:\n    matchLabels:"),
        ("migrate.yaml", "backoffLimit: 2", 'backoffLimit: "2"'),
        ("backup.yaml", "concurrencyPolicy: Forbid", "concurrencyPolicy: 1"),
        ("backup.yaml", "      backoffLimit: 2", "      retries: 2"),
        ("scaling.yaml", "maxReplicas: 4", "most: 4"),
        ("scaling.yaml", "- type: Resource", "- kind: Resource"),
        ("network.yaml", 'policyTypes: ["Ingress", "Egress"]', "policyTypes: Ingress"),
        ("ingress.yaml", "pathType: Prefix", "path_type: Prefix"),
        ("ingress.yaml", "secretName: kernex-tls", "secret: kernex-tls"),
    ],
)
def test_broken_objects_are_refused(name: str, old: str, new: str) -> None:
    text = (FOLDER / name).read_text()
    assert old in text
    broken = yaml.safe_load_all(text.replace(old, new, 1))
    assert [problem for each in broken for problem in problems(each, "1.35")] != []


def test_files_pass_their_linter() -> None:
    linter = Path(sys.executable).with_name("yamllint")
    done = subprocess.run([linter, "--strict", FOLDER], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_terraform_creates_a_tested_version() -> None:
    prefix = re.search(
        r'version_prefix = optional\(string, "([\d.]+)\."\)', (ROOT / "terraform" / "growth.tf").read_text()
    )
    assert prefix is not None
    assert prefix[1] in VERSIONS


def pods() -> dict[str, Object]:
    """The pod template of each workload by the program that it runs."""
    templates = [each["spec"]["template"] for each in objects() if each["kind"] in ("Deployment", "Job")]
    templates += [each["spec"]["jobTemplate"]["spec"]["template"] for each in objects() if each["kind"] == "CronJob"]
    return {template["spec"]["containers"][0]["args"][0]: template for template in templates}


def test_one_image_runs_every_program() -> None:
    assert set(pods()) == {"web", "scheduler", "migrate", "backup"}
    assert {template["spec"]["containers"][0]["image"] for template in pods().values()} == {"kernex"}
    assert [image["name"] for image in kustomization()["images"]] == ["kernex"]


def test_pods_run_without_rights() -> None:
    """The `restricted` standard of the namespace demands this."""
    for template in pods().values():
        pod, (container,) = template["spec"], template["spec"]["containers"]
        confinement = container["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert confinement["readOnlyRootFilesystem"]
        assert not confinement["allowPrivilegeEscalation"]
        assert confinement["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"] == "512Mi"
    assert (
        manifest_object("Namespace", "kernex")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        == "restricted"
    )


def test_web_is_checked_and_drains() -> None:
    pod = pods()["web"]["spec"]
    (container,) = pod["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    # gunicorn's graceful_timeout is 25 s.
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] + 25 < pod["terminationGracePeriodSeconds"]
    assert manifest_object("Deployment", "kernex-web")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_objects_refer_to_each_other() -> None:
    labels = {program: template["metadata"]["labels"].items() for program, template in pods().items()}
    web = manifest_object("Service", "kernex-web")["spec"]
    assert web["selector"].items() <= labels["web"]
    assert web["ports"][0]["targetPort"] == pods()["web"]["spec"]["containers"][0]["ports"][0]["name"]
    for name in ("web", "scheduler"):
        deployment = manifest_object("Deployment", f"kernex-{name}")
        assert deployment["spec"]["selector"]["matchLabels"].items() <= labels[name]
        budget = manifest_object("PodDisruptionBudget", f"kernex-{name}")["spec"]
        assert budget["selector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]
    backend = manifest_object("Ingress", "kernex")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert (backend["name"], backend["port"]["name"]) == ("kernex-web", web["ports"][0]["name"])
    assert manifest_object("HorizontalPodAutoscaler", "kernex-web")["spec"]["scaleTargetRef"]["name"] == "kernex-web"
    sources = {
        source["configMapRef"]["name"]
        for program in pods()
        for source in sources_of(program)
        if "configMapRef" in source
    }
    assert sources == {generator["name"] for generator in kustomization()["configMapGenerator"]}


def test_the_backup_gets_its_own_storage_key_and_no_other_secret() -> None:
    (container,) = pods()["backup"]["spec"]["containers"]
    assert ["secretRef" in source for source in container["envFrom"]] == [False]
    secrets = {entry["name"]: entry["valueFrom"]["secretKeyRef"]["name"] for entry in container["env"]}
    assert secrets == {
        "SECRET_KEY": "kernex", "DATABASE_URL": "kernex",
        "STORAGE_ACCESS_KEY": "kernex-backups", "STORAGE_SECRET_KEY": "kernex-backups",
    }  # fmt: skip


def test_the_backup_runs_every_night_and_never_twice_at_once() -> None:
    cron = manifest_object("CronJob", "kernex-backup")["spec"]
    assert re.fullmatch(r"\d+ \d+ \* \* \*", cron["schedule"])
    assert (cron["concurrencyPolicy"], cron["timeZone"]) == ("Forbid", "Etc/UTC")


def test_old_backups_are_deleted() -> None:
    (container,) = pods()["backup"]["spec"]["containers"]
    assert container["args"][-2:] == ["--keep", "35"]


def sources_of(program: str) -> list[Object]:
    listed: list[Object] = pods()[program]["spec"]["containers"][0]["envFrom"]
    return listed


def test_ingress_terminates_tls_and_buffers() -> None:
    ingress = manifest_object("Ingress", "kernex")
    annotations = {name.rpartition("/")[2]: value for name, value in ingress["metadata"]["annotations"].items()}
    assert annotations["proxy-request-buffering"] == annotations["proxy-buffering"] == "on"
    assert annotations["ssl-redirect"] == "true"
    # A part is 16 MiB at most, a manifest 4 MiB.
    assert int(annotations["proxy-body-size"].removesuffix("m")) > 16
    assert ingress["spec"]["tls"][0]["hosts"] == [ingress["spec"]["rules"][0]["host"]]


def test_only_the_ingress_reaches_the_web() -> None:
    default_policy = manifest_object("NetworkPolicy", "kernex")["spec"]
    assert default_policy["podSelector"] == {}
    assert set(default_policy["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in default_policy
    (rule,) = manifest_object("NetworkPolicy", "kernex-web")["spec"]["ingress"]
    (peer,) = rule["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "ingress-nginx"}
    ports = {port["port"] for rule in default_policy["egress"] for port in rule["ports"]}
    assert ports == {53, 443, 25060, 25061}


def settings() -> dict[str, str]:
    lines = (FOLDER / "settings.properties").read_text().split()
    return dict(line.split("=", 1) for line in lines)


def test_settings_exist_and_are_not_secret() -> None:
    read = (ROOT / "kernex" / "settings.py").read_text() + (ROOT / "gunicorn.conf.py").read_text()
    assert set(settings()) <= set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', read))
    assert [name for name in settings() if re.search("SECRET|TOKEN|DATABASE_URL|ACCESS_KEY", name)] == []
    assert settings()["PUBLIC_URL"] == f"https://{manifest_object('Ingress', 'kernex')['spec']['rules'][0]['host']}"


def test_pods_fit_into_the_seeds_database() -> None:
    max_replicas = manifest_object("HorizontalPodAutoscaler", "kernex-web")["spec"]["maxReplicas"]
    values = settings()
    assert int(values["KERNEX_INSTANCES"]) == max_replicas
    pool = int(values["DATABASE_POOL"])
    schedulers = manifest_object("Deployment", "kernex-scheduler")["spec"]["replicas"]
    # A rolling update adds one pod of each (maxSurge). A scheduler has two connections, for its lock and its work; so
    # has the migration. The backup has three.
    web = (max_replicas + 1) * int(values["WEB_WORKERS"]) * pool
    assert web + (schedulers + 1) * 2 + 2 + 3 <= 95


# A fake kubectl: it writes down its arguments, and lets the migration end with the exit code $MIGRATION.
KUBECTL = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in *" wait "*) exit "$MIGRATION" ;; esac
"""


def release(folder: Path, migration: int) -> tuple[int, list[str]]:
    """Return the exit code of release.sh, and its calls of kubectl."""
    calls = folder / "calls"
    (folder / "kubectl").write_text(KUBECTL)
    (folder / "kubectl").chmod(0o755)
    done = subprocess.run(
        ["sh", str(FOLDER / "release.sh")], capture_output=True, check=False,
        env={"PATH": f"{folder}:/usr/bin:/bin", "CALLS": str(calls), "MIGRATION": str(migration)},
    )  # fmt: skip
    return done.returncode, [re.sub(r"/\S*tmp\S*", "ALL", line) for line in calls.read_text().splitlines()]


def test_release_migrates_before_it_rolls_out(tmp_path: Path) -> None:
    code, calls = release(tmp_path, migration=0)
    assert code == 0
    assert [line for line in calls if line.startswith("apply") or " wait " in line] == [
        "apply -f namespace.yaml",
        "apply -f ALL --selector kernex/step!=serve",
        "-n kernex wait --for=condition=complete --timeout=610s job/kernex-migrate",
        "apply -f ALL",
    ]
    for kind, name in (("Deployment", "kernex-web"), ("Deployment", "kernex-scheduler"), ("CronJob", "kernex-backup")):
        assert manifest_object(kind, name)["metadata"]["labels"] == {"kernex/step": "serve"}
    assert "kernex/step" not in manifest_object("Job", "kernex-migrate")["metadata"].get("labels", {})


def test_release_rolls_nothing_out_if_the_migration_fails(tmp_path: Path) -> None:
    code, calls = release(tmp_path, migration=1)
    assert code == 1
    assert "apply -f ALL" not in calls
    assert calls[-1] == "-n kernex logs job/kernex-migrate --tail=50"
