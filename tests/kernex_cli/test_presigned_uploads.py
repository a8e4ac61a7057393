"""`kernex push` if parts go directly to the server's storage: URLs, credentials and retries."""

import hashlib
import os
from pathlib import Path

import pytest

from kernex_cli import presigned_uploads
from tests.kernex_cli.conftest import Kernex, Outcome
from tests.kernex_cli.fake_server import CUT, FakeServer, Response, error
from tests.kernex_cli.test_push import Push

EXPIRED: Response = (403, b"<Error><Code>AccessDenied</Code></Error>")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    directory = tmp_path / "tree"
    directory.mkdir()
    (directory / "model").write_bytes(os.urandom(3500))
    (directory / "small").write_text("print('hello')\n")
    (directory / "empty").touch()
    return directory


@pytest.fixture
def push(at_fake: Kernex, fake: FakeServer, tree: Path) -> Push:
    fake.is_direct = True

    def run(*arguments: object) -> Outcome:
        return at_fake("push", tree, "--name", "vad", "--version", "1.0.0", *arguments)

    return run


def stored(tree: Path) -> dict[str, bytes]:
    contents = {path.read_bytes() for path in tree.iterdir()}
    return {hashlib.sha256(content).hexdigest(): content for content in contents}


def test_parts_go_to_storage(push: Push, fake: FakeServer, tree: Path) -> None:
    outcome = push("--json")
    assert outcome.code == 0, outcome.err
    assert fake.blobs == stored(tree)
    assert (fake.count("PUT /storage/"), fake.count("PUT")) == (5, 5)
    assert outcome.document["bytes_sent"] == 3500 + 15


def test_a_small_file_needs_no_extra_request_for_its_url(push: Push, fake: FakeServer, tree: Path) -> None:
    (tree / "model").unlink()
    assert push().code == 0
    assert fake.count("POST /api/v1/uploads/") == 2  # completed: the small one and the empty one
    assert fake.blobs == stored(tree)


def test_storage_gets_no_credentials(
    push: Push, fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(presigned_uploads, "LOOPBACK", set[str]())  # as if storage were on another machine
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert push().code == 0
    sent = [headers for call, headers in zip(fake.requests, fake.headers, strict=True) if call.startswith("PUT")]
    assert len(sent) == 5
    assert not [headers for headers in sent if "Authorization" in headers]


def test_stored_parts_are_not_sent_again(push: Push, fake: FakeServer, tree: Path) -> None:
    content = (tree / "model").read_bytes()
    fake.uploads[hashlib.sha256(content).hexdigest()] = {1: content[:1000], 3: content[2000:3000]}
    outcome = push("--json")
    assert outcome.document["bytes_sent"] == 1500 + 15
    assert fake.blobs == stored(tree)


@pytest.mark.parametrize(
    "fault", [CUT, (500, b""), (503, b"", {"Retry-After": "1"}), EXPIRED, (400, b"BadDigest"), (404, b"NoSuchUpload")],
    ids=str,
)  # fmt: skip
def test_a_part_that_fails_is_sent_again(push: Push, fake: FakeServer, tree: Path, fault: Response) -> None:
    fake.fail("PUT", fault)
    assert push().code == 0
    assert fake.count("PUT") == 6
    assert fake.blobs == stored(tree)


def test_an_expired_url_is_not_used_again(push: Push, fake: FakeServer) -> None:
    fake.fail("PUT", EXPIRED, EXPIRED)
    before = 4 + 3  # requests for URLs of the large file, completions
    assert push().code == 0
    assert fake.count("POST /api/v1/uploads/") == before + 2


def test_storage_that_always_refuses_ends_the_push(push: Push, fake: FakeServer) -> None:
    fake.fail("PUT", *[EXPIRED] * 100)
    outcome = push()
    assert outcome.code == 6
    assert f"refused part 1 {presigned_uploads.MAX_TRIES} times (status 403)" in outcome.err


def test_the_error_names_storage_that_cannot_be_reached(push: Push, fake: FakeServer) -> None:
    fake.fail("PUT", *[CUT] * 1000)
    outcome = push("--retry-for", "1s")
    assert outcome.code == 5
    assert "storage 127.0.0.1" in outcome.err


def test_a_closed_upload_is_started_again(push: Push, fake: FakeServer, tree: Path) -> None:
    closed = error(409, "upload_closed", "Expired.")
    responses = [closed]
    fake.faults.append(lambda call: responses.pop() if responses and call.endswith("/parts") else None)
    assert push().code == 0
    assert fake.blobs == stored(tree)
