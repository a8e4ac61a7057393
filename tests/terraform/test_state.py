"""The state is kept in the bucket that backend/*.tfbackend names."""

import json
import shutil
from pathlib import Path

import pytest

from tests.bundles.storage.conftest import KEY, SECRET, client_of, moto
from tests.live import ROOT
from tests.terraform.project import Project

BUCKET = "kernex-terraform-state"


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_state_is_kept_in_the_bucket_and_nowhere_else(
    provider: dict[str, str], tmp_path: Path, environment: str
) -> None:
    folder = tmp_path / "terraform"
    shutil.copytree(ROOT / "terraform", folder, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*", "*.tfvars"))
    project = Project(folder, provider | {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET})
    with moto(tmp_path) as port:
        client = client_of(port)
        client.create_bucket(Bucket=BUCKET)
        # The file as it is, except for the URL of the storage.
        project.change(
            f"backend/{environment}.tfbackend", "https://sfo3.digitaloceanspaces.com", f"http://127.0.0.1:{port}"
        )
        project.terraform(
            "init",
            "-no-color",
            f"-backend-config=backend/{environment}.tfbackend",
            "-backend-config=use_path_style=true",
        )
        example = f"-var-file={environment}.tfvars.example"
        project.terraform("apply", "-no-color", "-auto-approve", example, "-var=stage=base")
        state = json.loads(client.get_object(Bucket=BUCKET, Key=f"{environment}.tfstate")["Body"].read())
        assert [line["Key"] for line in client.list_objects_v2(Bucket=BUCKET)["Contents"]] == [f"{environment}.tfstate"]
        password = project.terraform("output", "-raw", "database_password")
    assert state["outputs"]["database_password"]["value"] == password
    leaking = [path for path in folder.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]
    assert leaking == []
