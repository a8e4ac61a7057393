"""Manifests, tested against the examples that server, agent and command line share."""

import json
from pathlib import Path
from typing import Any

import pytest

from bundles import manifest
from bundles.errors import BadBundle

EXAMPLES = json.loads((Path(__file__).parent.parent / "contract" / "manifests.json").read_text())
A = "a" * 64


def example(**fields: Any) -> dict[str, Any]:
    file = {"path": "a", "sha256": A, "size": 1, "mode": 420}
    return {"schema": 1, "name": "vad", "version": "1.0.0", "files": [file]} | fields


@pytest.mark.parametrize("good", EXAMPLES["good"], ids=lambda good: good["why"])
def test_good_examples_are_accepted(good: dict[str, Any]) -> None:
    read = manifest.read(good["manifest"])
    assert read.sha256 == good["sha256"]
    assert manifest.parse(read.body) == read


@pytest.mark.parametrize("bad", EXAMPLES["bad"], ids=lambda bad: f"{bad['code']}: {bad['why']}")
def test_bad_examples_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(BadBundle) as refusal:
        manifest.parse(bad["raw"].encode()) if "raw" in bad else manifest.read(bad["manifest"])
    assert refusal.value.code == bad["code"], refusal.value.message
    refusal.value.message.encode()  # can be encoded, whatever was sent


def test_the_examples_cover_every_code() -> None:
    source = Path(manifest.__file__).read_text() + (Path(manifest.__file__).parent / "paths.py").read_text()
    codes = {bad["code"] for bad in EXAMPLES["bad"]}
    assert len(codes) > 25
    assert [code for code in codes if f'"{code}"' not in source] == []


def test_every_member_is_read() -> None:
    read = manifest.read(EXAMPLES["good"][0]["manifest"])
    assert read.label == "vad@1.0.0"
    assert (read.release_counter, read.device_types) == (7, ("edge", "jetson-nano"))
    assert (read.memory, read.disk, read.size) == (268435456, 1073741824, 2327536)
    assert read.hooks["pre_install"] == manifest.Hook(("./hook", "before"), 60)
    assert read.run == manifest.Run(("python3", "runner.py"), {"MODEL": "model/vad.onnx", "_x1": ""})
    assert read.health == manifest.Health(30, command=("./hook", "health"), interval_seconds=2)
    assert read.files[0] == manifest.File("hook", "b" * 64, 12, 493)


def files(count: int, path: str = "{:05}") -> list[dict[str, Any]]:
    return [{"path": path.format(number), "sha256": A, "size": 1, "mode": 420} for number in range(count)]


def test_at_most_10_000_files_are_accepted() -> None:
    assert manifest.read(example(files=files(10_000))).size == 10_000
    with pytest.raises(BadBundle) as refusal:
        manifest.read(example(files=files(10_001)))
    assert refusal.value.code == "too_many_files"


def test_at_most_4_mib_are_accepted() -> None:
    long = "d" * 200 + "/" + "e" * 200 + "/{:05}"
    assert len(manifest.read(example(files=files(8000, long))).body) > 4_000_000
    with pytest.raises(BadBundle) as refusal:
        manifest.read(example(files=files(9000, long)))
    assert refusal.value.code == "manifest_too_large"
    with pytest.raises(BadBundle) as refusal:
        manifest.parse(b" " * (manifest.MAX_MANIFEST_SIZE + 1))
    assert refusal.value.code == "manifest_too_large"
