"""The agent's rules for manifests, tested against the same examples as the server's and the command line's."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.manifest import MAX_FILES, MAX_SIZE, parse
from agent.paths import BadManifest

EXAMPLES: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent.parent / "contract" / "manifests.json").read_text()
)


def body(example: dict[str, Any]) -> bytes:
    if "raw" in example:
        return str(example["raw"]).encode("utf-8", "surrogatepass")
    text = json.dumps(example["manifest"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("example", EXAMPLES["good"], ids=lambda example: example["why"])
def test_a_good_manifest_is_read(example: dict[str, Any]) -> None:
    manifest = parse(body(example))
    assert manifest.name == example["manifest"]["name"]
    assert len(manifest.files) == len(example["manifest"]["files"])


@pytest.mark.parametrize("example", EXAMPLES["bad"], ids=lambda example: example["why"])
def test_a_bad_manifest_is_refused(example: dict[str, Any]) -> None:
    with pytest.raises(BadManifest) as refusal:
        parse(body(example))
    # Bytes that are not text are refused before the rules for paths apply.
    assert refusal.value.code in {example["code"], "not_json"}
    assert (refusal.value.reason_code, refusal.value.is_refusal) == ("bad_manifest", True)


def manifest(files: list[dict[str, Any]], **fields: Any) -> bytes:
    value = {"schema": 1, "name": "vad", "version": "1", "files": files, **fields}
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def entry(path: str) -> dict[str, Any]:
    return {"path": path, "sha256": "a" * 64, "size": 1, "mode": 420}


def test_too_many_files_are_refused() -> None:
    paths = sorted(f"f{number}" for number in range(MAX_FILES + 1))
    assert len(parse(manifest([entry(path) for path in paths[:-1]])).files) == MAX_FILES
    with pytest.raises(BadManifest, match="too_many_files"):
        parse(manifest([entry(path) for path in paths]))


def test_a_manifest_that_is_too_large_is_refused() -> None:
    with pytest.raises(BadManifest, match="manifest_too_large"):
        parse(b" " * (MAX_SIZE + 1))


@pytest.mark.parametrize("data", [b"\xff", b"\x00", b"[" * 100_000, b'{"a":' * 50_000])
def test_bytes_that_are_not_json_are_refused(data: bytes) -> None:
    with pytest.raises(BadManifest, match="not_json"):
        parse(data)
