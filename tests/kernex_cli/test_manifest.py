"""The command line's rules for manifests, tested against the same examples as the server's and the agent's."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from kernex_cli.errors import BadManifest
from kernex_cli.manifest import canonical, check, read_json

EXAMPLES = json.loads((Path(__file__).parent.parent / "contract" / "manifests.json").read_text())


@pytest.mark.parametrize("example", EXAMPLES["good"], ids=lambda example: example["why"])
def test_good_manifests_are_accepted(example: dict[str, Any]) -> None:
    check(example["manifest"])
    assert hashlib.sha256(canonical(example["manifest"])).hexdigest() == example["sha256"]


@pytest.mark.parametrize("example", [e for e in EXAMPLES["bad"] if "manifest" in e], ids=lambda example: example["why"])
def test_bad_manifests_are_refused(example: dict[str, Any]) -> None:
    with pytest.raises(BadManifest) as refused:
        check(example["manifest"])
    assert refused.value.code == example["code"]


@pytest.mark.parametrize("example", [e for e in EXAMPLES["bad"] if "raw" in e], ids=lambda example: example["why"])
def test_texts_that_are_not_canonical_json_are_refused(example: dict[str, Any]) -> None:
    raw = example["raw"].encode()
    if example["code"] == "not_canonical":
        assert canonical(read_json(raw)) != raw
    else:
        with pytest.raises(BadManifest) as refused:
            read_json(raw)
        assert refused.value.code == example["code"]


def test_more_than_ten_thousand_files_are_refused() -> None:
    entry = {"sha256": "a" * 64, "size": 1, "mode": 420}
    manifest = {"schema": 1, "name": "a", "version": "1"}
    check({**manifest, "files": [{"path": f"{n:05}", **entry} for n in range(10_000)]})
    with pytest.raises(BadManifest) as refused:
        check({**manifest, "files": [{"path": f"{n:05}", **entry} for n in range(10_001)]})
    assert refused.value.code == "too_many_files"


def test_more_than_four_mebibytes_are_refused() -> None:
    files = [
        {"path": f"{'d' * 250}/{n:05}{'f' * 240}", "sha256": "a" * 64, "size": 1, "mode": 420} for n in range(10_000)
    ]
    with pytest.raises(BadManifest) as refused:
        check({"schema": 1, "name": "a", "version": "1", "files": files})
    assert refused.value.code == "manifest_too_large"
