"""A bundle from its manifest and bytes to the state ready."""

from pathlib import Path

from bundles.models import Bundle
from bundles.storage.interface import blobs
from foundation.events.models import Event
from tests.bundles.publisher import Publisher, sha256


def test_a_pushed_bundle_becomes_ready(publisher: Publisher, storage: Path) -> None:
    contents = {"model.bin": b"m" * 100, "empty": b"", "again": b"m" * 100}
    response = publisher.push(contents)
    assert response.json() | {"state": "ready", "missing": [], "size": 200, "file_count": 3} == response.json()
    with blobs().open(sha256(b"m" * 100)) as blob:
        assert blob.seek(99) == 99
        assert blob.read() == b"m"
    assert blobs().size(sha256(b"")) == 0
    assert list((storage / "uploads").iterdir()) == []
    kinds = list(Event.objects.exclude(kind="api_token.issued").order_by("id").values_list("kind", "actor"))
    assert kinds == [
        ("bundle.drafted", "operator:alice"),
        ("bundle.published", "operator:alice"),
        ("bundle.ready", "scheduler"),
    ]
    bundle = Bundle.objects.ready().get()
    assert bundle.manifest_sha256 == sha256(bundle.manifest.encode())


def test_parts_are_accepted_in_any_order(publisher: Publisher) -> None:
    content = bytes(range(256)) * 4096 * 33
    upload = publisher.start(content).json()
    size = upload["part_size"]
    for number in (3, 1, 2):
        assert publisher.put(upload["id"], number, content[(number - 1) * size : number * size]).status_code == 200
    assert [part["number"] for part in publisher.get(f"uploads/{upload['id']}").json()["parts"]] == [1, 2, 3]
