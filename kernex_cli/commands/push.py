"""`push`: create a bundle from a directory and publish it."""

import time
from argparse import BooleanOptionalAction
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernex_cli import description
from kernex_cli.arguments import (
    LONG_RETRY_SECONDS,
    Commands,
    Context,
    Help,
    add_command,
    add_timeout,
    bundle_name,
)
from kernex_cli.errors import Exit, FileChanged, Refused, WaitFailed
from kernex_cli.formatting import counted, size_text
from kernex_cli.manifest import SCHEMA, check
from kernex_cli.parser import Parser
from kernex_cli.resources import Bundle
from kernex_cli.screen import Screen
from kernex_cli.tree import Source, identity, walk
from kernex_cli.upload import Blob, Uploader

MAX_TRIES = 3
POLL_SECONDS = 0.5
SLOW_POLL_SECONDS = 2.0
PUSH = Help(
    "create a bundle from a directory and publish it",
    """\
Reads all files under DIR, sends their digests to the server, and uploads only the files that the server does not
have. If a push is interrupted or refused, run the same command again: it resumes where it stopped. A version never
changes: push changed files as another version.

`kernex.toml` (or `kernex.json`) in DIR describes how devices run and check the bundle: device_types, requires,
release_counter, hooks, run, health. `.kernexignore` lists what to leave out, one pattern per line (`*.pyc`, `.git/`,
`data/raw/*`). Neither file is part of the bundle. Symbolic links are refused.""",
    """\
  kernex push ./vad --name vad --version 1.0.0
  kernex push build --name vad --version 1.0.1 --manifest-from vad.toml --json
  kernex push build --name vad --version 1.1.0 --no-publish

a kernex.toml:
  device_types = ["edge"]
  requires = { memory = 268435456, disk = 1073741824 }
  run = { command = ["python3", "runner.py"], environment = { LEVEL = "info" } }
  health = { file = "health.json", timeout_seconds = 30 }
  [hooks]
  pre_install = { command = ["./prepare"], timeout_seconds = 60 }
""",
)
NO_RUN_COMMAND = (
    "There is no `run` command, so devices only store the files. `kernex push --help` shows a kernex.toml that has one."
)


def add_to(commands: "Commands[Parser]") -> None:
    parser = add_command(commands, "push", push, PUSH, LONG_RETRY_SECONDS)
    parser.add_argument("directory", type=Path, metavar="DIR", help="the directory with the bundle's files")
    parser.add_argument("--name", required=True, type=bundle_name, help="the product's name, such as vad")
    parser.add_argument("--version", required=True, type=bundle_name, help="a new version")
    parser.add_argument(
        "--manifest-from", type=Path, metavar="FILE", help="the description (default: kernex.toml or .json in DIR)"
    )
    parser.add_argument("--no-publish", dest="publish", action="store_false", help="leave the bundle as a draft")
    parser.add_argument(
        "--wait", action=BooleanOptionalAction, default=True, help="wait until the bundle is ready (the default)"
    )
    add_timeout(parser, "the bundle to be ready")


@dataclass(frozen=True)
class Release:
    """A name, a version and the files of a directory. `fields` are further fields of the manifest."""

    name: str
    version: str
    fields: Mapping[str, Any]
    digests: Mapping[Source, str]

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def path(self) -> str:
        return f"/bundles/{self.name}/{self.version}"

    def manifest(self) -> dict[str, Any]:
        """Return the checked manifest. Raises `BadManifest`."""
        files = [
            {"path": source.path, "sha256": sha256, "size": source.size, "mode": source.mode}
            for source, sha256 in self.digests.items()
        ]
        manifest = {**self.fields, "schema": SCHEMA, "name": self.name, "version": self.version, "files": files}
        check(manifest)
        return manifest

    def blobs(self, missing: Iterable[Mapping[str, Any]]) -> list[Blob]:
        """Return the contents that the server is missing."""
        source_by_digest = {sha256: source for source, sha256 in self.digests.items()}
        return [Blob(blob["sha256"], source_by_digest[blob["sha256"]]) for blob in missing]

    def check_unchanged(self) -> None:
        """Raise `FileChanged` if a file changed after it was read: the bundle must be a consistent snapshot."""
        for source in self.digests:
            try:
                is_unchanged = identity(source.location.lstat()) == source.identity
            except OSError:
                is_unchanged = False
            if not is_unchanged:
                raise FileChanged(source.path)


def push(context: Context) -> int:
    """Raises: `BadManifest`, `FileChanged`, `Refused`, `Unreachable`, `WaitFailed`."""
    release = _read_release(context)
    draft = context.client.post("/bundles", {"manifest": release.manifest()})
    bytes_sent = _send_missing(context, release, draft["missing"])
    release.check_unchanged()
    if context.arguments.publish:
        document = _publish(context, release)
        if context.arguments.wait:
            document = _wait(context, release)
    else:
        document = context.client.get(release.path)
    _show(context.screen, document, bytes_sent)
    return Exit.OK if document["state"] != "draft" or not context.arguments.publish else Exit.WAIT_FAILED


def _read_release(context: Context) -> Release:
    """Read the description and all files. Raises `LocalProblem`."""
    arguments = context.arguments
    directory = arguments.directory.resolve()
    requested = arguments.manifest_from and arguments.manifest_from.resolve()
    default = description.find(directory)
    fields = description.read(requested or default)
    sources = walk(directory, frozenset(filter(None, (default, requested))))
    if "run" not in fields:
        context.screen.note(NO_RUN_COMMAND)
    total = sum(source.size for source in sources)
    title = f"Reading {counted(len(sources), 'file')}, {size_text(total)}"
    with context.screen.bar(title, total, in_bytes=True) as bar:
        digests = {source: source.sha256(bar.advance) for source in sources}
    return Release(arguments.name, arguments.version, fields, digests)


def _send_missing(context: Context, release: Release, missing: Iterable[Mapping[str, Any]]) -> int:
    """Send what the server is missing. Return the number of bytes sent."""
    blobs = release.blobs(missing)
    if not blobs:
        return 0
    total = sum(blob.source.size for blob in blobs)
    title = f"Sending {counted(len(blobs), 'file')}, {size_text(total)}"
    with context.screen.bar(title, total, in_bytes=True) as bar:
        return Uploader(context.client, bar.advance).send_all(blobs)


def _publish(context: Context, release: Release) -> Any:
    """Publish the draft. Send again what the server lost or found damaged in the meantime."""
    for attempt in range(1, MAX_TRIES + 1):
        try:
            return context.client.post(f"{release.path}/publish")
        except Refused as error:
            if error.code != "missing_blobs" or attempt == MAX_TRIES:
                raise
            _send_missing(context, release, context.client.get(release.path)["missing"])
    return None


def _wait(context: Context, release: Release) -> Any:
    """Return the bundle once the server has verified every file. Raises `WaitFailed` after --timeout."""
    started_at = time.monotonic()
    timeout = context.arguments.timeout
    document = context.client.get(release.path)
    if document["state"] != "verifying":
        return document
    total = Bundle.parse(document).missing_size
    with context.screen.bar("The server verifies the files", total or None, in_bytes=True) as bar:
        while document["state"] == "verifying":
            waited = time.monotonic() - started_at
            if timeout is not None and waited > timeout:
                raise WaitFailed(
                    f"{release.label} is still being verified after {timeout} s. The server continues; if this takes "
                    "too long, check that its scheduler is running. `kernex bundles` shows the state."
                )
            time.sleep(POLL_SECONDS if waited < 10 else SLOW_POLL_SECONDS)
            document = context.client.get(release.path)
            bar.show(done=total - Bundle.parse(document).missing_size)
    return document


def _show(screen: Screen, document: Mapping[str, Any], bytes_sent: int) -> None:
    bundle = Bundle.parse(document)
    content = f"{counted(bundle.file_count, 'file')}, {size_text(bundle.size)}"
    lines = [f"{bundle.label} is {bundle.state}: {content}, {size_text(bytes_sent)} sent."]
    if bundle.state == "ready":
        lines.append(f"Next: kernex deploy {bundle.label} --group GROUP --wait")
    elif bundle.state_reason:
        lines.append(f"{bundle.state_reason}. Run the same command again.")
    result = {name: value for name, value in document.items() if name != "missing"}
    screen.result({**result, "bytes_sent": bytes_sent}, *lines)
