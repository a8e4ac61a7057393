"""The state in a bucket, as backend/*.tfbackend describe it."""

import json
import shutil
from pathlib import Path

import pytest

from tests.bundles.storage.conftest import KEY, SECRET, client_of, moto
from tests.live import ROOT
from tests.terraform.places import Place, run

BUCKET = "kernex-terraform-state"


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_state_is_kept_in_the_bucket_and_nowhere_else(
    standin: dict[str, str], tmp_path: Path, environment: str
) -> None:
    folder = tmp_path / "terraform"
    shutil.copytree(ROOT / "terraform", folder, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*", "*.tfvars"))
    place = Place(folder, standin | {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET})
    with moto(tmp_path) as port:
        client = client_of(port)
        client.create_bucket(Bucket=BUCKET)
        # The file as it is, but for the address of the storage.
        place.change(
            f"backend/{environment}.tfbackend", "https://sfo3.digitaloceanspaces.com", f"http://127.0.0.1:{port}"
        )
        place.run(
            "init",
            "-no-color",
            f"-backend-config=backend/{environment}.tfbackend",
            "-backend-config=use_path_style=true",
        )
        example = f"-var-file={environment}.tfvars.example"
        place.run("apply", "-no-color", "-auto-approve", example, "-var=stage=base")
        kept = json.loads(client.get_object(Bucket=BUCKET, Key=f"{environment}.tfstate")["Body"].read())
        assert [line["Key"] for line in client.list_objects_v2(Bucket=BUCKET)["Contents"]] == [f"{environment}.tfstate"]
        said = run(folder, place.environment, "output", "-raw", "database_password")
    assert kept["outputs"]["database_password"]["value"] == said
    holding = [path for path in folder.rglob("*") if path.is_file() and said.encode() in path.read_bytes()]
    assert holding == []
