"""`kernex push` against a fake server: what is sent, what is resumed, and what is refused."""

import hashlib
import json
import os
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernex_cli.tree import walk
from kernex_cli.upload import PARALLEL_UPLOADS, Blob, sum_in_parallel
from tests.kernex_cli.conftest import Kernex, Outcome
from tests.kernex_cli.fake_server import CUT, FakeServer, error

Push = Callable[..., Outcome]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    directory = tmp_path / "tree"
    (directory / "model").mkdir(parents=True)
    (directory / "model" / "vad.onnx").write_bytes(os.urandom(3500))
    (directory / "runner.py").write_text("print('hello')\n")
    (directory / "same.py").write_text("print('hello')\n")
    (directory / "empty").touch()
    return directory


@pytest.fixture
def push(at_fake: Kernex, tree: Path) -> Push:
    def run(*arguments: object) -> Outcome:
        return at_fake("push", tree, "--name", "vad", "--version", "1.0.0", *arguments)

    return run


def test_each_content_is_sent_once(push: Push, fake: FakeServer, tree: Path) -> None:
    outcome = push("--json")
    assert outcome.code == 0, outcome.err
    contents = {path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    assert fake.blobs == {hashlib.sha256(content).hexdigest(): content for content in contents}
    assert fake.count("PUT") == 4 + 1
    assert outcome.document["state"] == "ready"
    assert outcome.document["bytes_sent"] == 3500 + 15


def test_the_manifest_lists_files_and_the_fields_of_the_description(push: Push, fake: FakeServer, tree: Path) -> None:
    (tree / "tool").write_text("#!/bin/sh\n")
    (tree / "tool").chmod(0o755)
    (tree / "kernex.toml").write_text('run = { command = ["./tool"] }\nrequires = { disk = 1_000 }\n')
    (tree / ".kernexignore").write_text("same.py\n")
    assert push().code == 0
    manifest = json.loads(fake.bodies[0])["manifest"]
    assert [file["path"] for file in manifest["files"]] == ["empty", "model/vad.onnx", "runner.py", "tool"]
    assert [file["mode"] for file in manifest["files"]] == [420, 420, 420, 493]
    assert manifest["run"] == {"command": ["./tool"]}
    assert manifest["requires"] == {"disk": 1000}
    assert (manifest["schema"], manifest["name"], manifest["version"]) == (1, "vad", "1.0.0")


def test_a_missing_run_command_is_noted(push: Push, tree: Path) -> None:
    assert "kernex.toml" in push().err
    (tree / "kernex.toml").write_text('run = { command = ["./tool"] }\n')
    assert "kernex.toml" not in push().err


def test_stored_contents_are_not_sent_again(push: Push, fake: FakeServer) -> None:
    assert push().code == 0
    fake.requests.clear()
    outcome = push("--json")
    assert outcome.document["bytes_sent"] == 0
    assert fake.count("PUT") == fake.count("POST /api/v1/uploads") == 0


def test_an_unfinished_upload_is_resumed(push: Push, fake: FakeServer, tree: Path) -> None:
    content = (tree / "model" / "vad.onnx").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    fake.uploads[sha256] = {1: content[:1000], 2: b"something else", 4: content[3000:]}
    outcome = push("--json")
    assert outcome.code == 0
    sent = [request for request in fake.requests if request.startswith("PUT") and sha256 in request]
    assert [request.rpartition("/")[2] for request in sent] == ["2", "3"]
    assert fake.blobs[sha256] == content
    assert outcome.document["bytes_sent"] == 2000 + 15


@pytest.mark.parametrize(
    "fault", [CUT, (502, b""), error(400, "bad_digest", "Damaged."), error(400, "body_cut", "Cut.")], ids=str
)
def test_a_part_that_fails_is_sent_again(push: Push, fake: FakeServer, fault: tuple[int, Any]) -> None:
    fake.fail("PUT", fault)
    assert push().code == 0
    assert fake.count("PUT") == 6


def test_a_part_that_is_always_refused_ends_the_push(push: Push, fake: FakeServer) -> None:
    fake.fail("PUT", *[error(400, "bad_digest", "Damaged.")] * 20)
    outcome = push()
    assert outcome.code == 4
    assert "bad_digest" in outcome.err


def test_a_closed_upload_is_started_again(push: Push, fake: FakeServer) -> None:
    fake.fail("PUT", error(409, "upload_closed", "Expired."))
    assert push().code == 0


def test_lost_parts_are_sent_again(push: Push, fake: FakeServer) -> None:
    def lose(call: str) -> None:
        if call.endswith("/complete") and fake.count("POST /api/v1/uploads/") == 1:
            next(parts for parts in fake.uploads.values() if parts).clear()

    fake.faults.append(lose)
    assert push().code == 0


def test_lost_blobs_are_sent_before_publishing_again(push: Push, fake: FakeServer) -> None:
    fake.fail("POST /api/v1/bundles/vad/1.0.0/publish", error(409, "missing_blobs", "Missing."))
    assert push().code == 0
    assert fake.count("POST /api/v1/bundles/vad/1.0.0/publish") == 2


def test_a_bundle_can_stay_a_draft(push: Push, fake: FakeServer) -> None:
    outcome = push("--no-publish", "--json")
    assert (outcome.code, outcome.document["state"]) == (0, "draft")
    assert fake.count("POST /api/v1/bundles/vad/1.0.0/publish") == 0


def test_the_reason_of_a_returned_bundle_is_shown(push: Push, fake: FakeServer) -> None:
    returned = {
        "name": "vad", "version": "1.0.0", "state": "draft", "state_reason": "runner.py: sha256 differs",
        "file_count": 4, "size": 1, "missing": [],
    }  # fmt: skip
    fake.responses["GET /bundles/vad/1.0.0"] = returned
    outcome = push()
    assert outcome.code == 6
    assert "runner.py: sha256 differs" in outcome.out


def test_waiting_ends_at_the_timeout(push: Push, fake: FakeServer) -> None:
    verifying = {"name": "vad", "version": "1.0.0", "state": "verifying", "missing": []}
    fake.responses["GET /bundles/vad/1.0.0"] = verifying
    outcome = push("--timeout", "1s", "--json")
    assert (outcome.code, outcome.out) == (6, "")


def test_a_version_cannot_change(push: Push, tree: Path) -> None:
    assert push().code == 0
    (tree / "runner.py").write_text("print('else')\n")
    outcome = push()
    assert outcome.code == 4
    assert "version_exists" in outcome.err


def test_a_file_that_changes_before_it_is_sent_stops_the_push(push: Push, fake: FakeServer, tree: Path) -> None:
    def change(call: str) -> None:
        (tree / "model" / "vad.onnx").write_text("changed")

    fake.faults.append(change)
    outcome = push()
    assert outcome.code == 7
    assert "model/vad.onnx changed" in outcome.err
    assert fake.count("POST /api/v1/bundles/") == 0


def test_a_change_of_a_stored_file_stops_the_push(push: Push, fake: FakeServer, tree: Path) -> None:
    content = b"print('hello')\n"
    fake.blobs[hashlib.sha256(content).hexdigest()] = content
    fake.faults.append(lambda call: (tree / "runner.py").unlink(missing_ok=True))
    assert push().code == 7


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("kernex.toml", "run = 7", "bad_member"),
        ("kernex.toml", 'run = { command = ["./missing"] }', "command_not_listed"),
        ("kernex.toml", 'run = { command = ["./runner.py"] }', "chmod"),
        ("kernex.toml", "files = []", "'files'"),
        ("kernex.toml", "helth = {}", "'helth'"),
        ("kernex.toml", "not toml", "kernex.toml"),
        ("kernex.json", '{"run": {"command": ["a"]}, "run": {}}', "twice"),
        ("kernex.json", "[]", "must be a table"),
    ],
)
def test_a_wrong_description_is_refused(
    push: Push, fake: FakeServer, tree: Path, name: str, text: str, message: str
) -> None:
    (tree / name).write_text(text)
    outcome = push()
    assert outcome.code == 7
    assert message in outcome.err
    assert fake.requests == []


@pytest.mark.parametrize(("toml", "json_text"), [("", "{}"), ("device_types = []", ""), ("", "")])
def test_two_descriptions_are_refused(push: Push, fake: FakeServer, tree: Path, toml: str, json_text: str) -> None:
    (tree / "kernex.toml").write_text(toml)
    (tree / "kernex.json").write_text(json_text)
    outcome = push()
    assert outcome.code == 7
    assert "kernex.toml and kernex.json" in outcome.err
    assert fake.requests == []


LONG_KEYS = [
    "a." * 20_000 + "a = 1",
    "[" + "a." * 20_000 + "a]",
    '"a" . ' * 9_000 + "a = 1",
    "x = {" + "a." * 20_000 + "a = 1}",
]


@pytest.mark.parametrize("text", LONG_KEYS, ids=["dotted key", "table", "quoted", "inline table"])
def test_a_long_dotted_key_is_refused_within_memory(push: Push, fake: FakeServer, tree: Path, text: str) -> None:
    (tree / "kernex.toml").write_text(text)
    tracemalloc.start()
    outcome = push()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcome.code == 7
    assert "dotted key" in outcome.err
    assert peak < 20 * 1024 * 1024
    assert fake.requests == []


@pytest.mark.parametrize("text", ["x = [" * 5_000, "# " + "a." * 200_000, '{"a": ' * 5_000])
def test_other_unreasonable_descriptions_are_refused(push: Push, tree: Path, text: str) -> None:
    (tree / "kernex.toml").write_text(text)
    assert push().code == 7


def test_dots_in_values_and_comments_are_allowed(push: Push, tree: Path) -> None:
    text = 'device_types = ["1.2.3.4.5.6.7.8.9.10.11"] # a.b.c.d.e.f.g.h.i.j.k.l\nrequires.memory = 1\n'
    (tree / "kernex.toml").write_text(text)
    assert push().code == 0


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(push: Push, fake: FakeServer, status: int) -> None:
    fake.fail("PUT", (status, {}, {"Retry-After": "1"}))
    started_at = time.monotonic()
    assert push().code == 0
    assert time.monotonic() - started_at >= 1


def test_the_description_can_be_another_file(push: Push, fake: FakeServer, tree: Path) -> None:
    (tree / "deploy.json").write_text('{"device_types": ["edge"]}')
    assert push("--manifest-from", tree / "deploy.json").code == 0
    manifest = json.loads(fake.bodies[0])["manifest"]
    assert manifest["device_types"] == ["edge"]
    assert "deploy.json" not in [file["path"] for file in manifest["files"]]


@pytest.mark.parametrize("arguments", [("--name", "Vad"), ("--version", "1/0"), ("--timeout", "soon")])
def test_wrong_arguments_are_refused(push: Push, fake: FakeServer, arguments: tuple[str, str]) -> None:
    assert push(*arguments).code == 2
    assert fake.requests == []


def test_small_files_are_sent_in_parallel(tree: Path) -> None:
    barrier = threading.Barrier(PARALLEL_UPLOADS, timeout=10)

    def wait_for_the_other_threads(blob: Blob) -> int:
        barrier.wait()
        return 1

    assert sum_in_parallel(wait_for_the_other_threads, [Blob("", walk(tree)[0])] * PARALLEL_UPLOADS) == PARALLEL_UPLOADS
