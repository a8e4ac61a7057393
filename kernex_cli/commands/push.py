"""`push`: a directory becomes a bundle that is ready to be deployed."""

import time
from argparse import ArgumentParser, BooleanOptionalAction
from pathlib import Path
from typing import Any

from kernex_cli import description
from kernex_cli.arguments import LONG_PATIENCE_SECONDS, Commands, Context, add_command, duration, plain_name
from kernex_cli.errors import Exit, FileChanged, Refused, WaitFailed
from kernex_cli.manifest import SCHEMA, check
from kernex_cli.screen import Screen, size
from kernex_cli.tree import Source, identity, walk
from kernex_cli.upload import upload_all

TRIES = 3
POLL_SECONDS = 0.5
SLOW_POLL_SECONDS = 2.0
TEXT = """\
Reads every file below DIR, tells the server their digests, and sends only what it does not have yet. A push that was
cut, killed or refused goes on where it was when the same command is run again. A version never changes: push changed
files under another version.

`kernex.toml` (or `kernex.json`) in DIR says how devices run and check the bundle: device_types, requires,
release_counter, hooks, run, health. `.kernexignore` names what to leave out, one pattern a line (`*.pyc`, `.git/`,
`data/raw/*`). Neither is part of the bundle, and symbolic links are refused."""
EXAMPLES = """\
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
"""
NOTHING_RUNS = "Nothing says what to run, so devices only keep the files: `kernex push --help` shows a kernex.toml."


def add_to(commands: "Commands[ArgumentParser]") -> None:
    parser = add_command(
        commands, "push", push, "make a bundle of a directory and publish it",
        text=TEXT, examples=EXAMPLES, patience=LONG_PATIENCE_SECONDS,
    )  # fmt: skip
    parser.add_argument("directory", type=Path, metavar="DIR", help="the directory that holds the bundle's files")
    parser.add_argument("--name", required=True, type=plain_name, help="the product's name, such as vad")
    parser.add_argument("--version", required=True, type=plain_name, help="a version that was not used before")
    parser.add_argument(
        "--manifest-from", type=Path, metavar="FILE", help="the description (default: kernex.toml or .json in DIR)"
    )
    parser.add_argument("--no-publish", dest="publish", action="store_false", help="leave the bundle a draft")
    parser.add_argument(
        "--wait", action=BooleanOptionalAction, default=True, help="wait until the bundle is ready (the default)"
    )
    parser.add_argument(
        "--timeout", type=duration, metavar="TIME", help="how long to wait for that (default: without end)"
    )


def push(context: Context) -> int:
    """Raises `BadManifest`, `FileChanged`, `Refused`, `Unreachable`, `WaitFailed`."""
    arguments, screen, client = context.arguments, context.screen, context.client
    directory = arguments.directory.resolve()
    given = arguments.manifest_from and arguments.manifest_from.resolve()
    described = description.find(directory)
    members = description.read(given or described)
    sources = walk(directory, frozenset(filter(None, (described, given))))
    if "run" not in members:
        screen.note(NOTHING_RUNS)
    digests = _digests(screen, sources)
    manifest = _manifest(arguments.name, arguments.version, members, digests)
    bundle = client.post("/bundles", {"manifest": manifest})
    address = f"/bundles/{arguments.name}/{arguments.version}"
    sent = _send_missing(context, bundle["missing"], digests)
    _check_unchanged(sources)
    if arguments.publish:
        bundle = _publish(context, address, digests)
        if arguments.wait:
            bundle = _wait(context, address)
    else:
        bundle = client.get(address)
    _show(screen, bundle, sent)
    return Exit.OK if bundle["state"] != "draft" or not arguments.publish else Exit.WAIT_FAILED


def _digests(screen: Screen, sources: list[Source]) -> dict[Source, str]:
    total = sum(source.size for source in sources)
    with screen.bar(f"Reading {files(len(sources))}, {size(total)}", total, in_bytes=True) as bar:
        return {source: source.sha256(bar.advance).hexdigest() for source in sources}


def _manifest(name: str, version: str, members: dict[str, Any], digests: dict[Source, str]) -> dict[str, Any]:
    files = [
        {"path": source.path, "sha256": sha256, "size": source.size, "mode": source.mode}
        for source, sha256 in digests.items()
    ]
    manifest = {**members, "schema": SCHEMA, "name": name, "version": version, "files": files}
    check(manifest)
    return manifest


def _send_missing(context: Context, missing: list[dict[str, Any]], digests: dict[Source, str]) -> int:
    """Send what the server lacks. Returns how many bytes were sent now."""
    by_digest = {sha256: source for source, sha256 in digests.items()}
    wanted = [(blob["sha256"], by_digest[blob["sha256"]]) for blob in missing]
    total = sum(source.size for _, source in wanted)
    if not wanted:
        return 0
    with context.screen.bar(f"Sending {files(len(wanted))}, {size(total)}", total, in_bytes=True) as bar:
        return upload_all(context.client, wanted, bar.advance)


def _check_unchanged(sources: list[Source]) -> None:
    """A bundle is one moment of a directory. Raises `FileChanged`."""
    for source in sources:
        try:
            unchanged = identity(source.location.lstat()) == source.identity
        except OSError:
            unchanged = False
        if not unchanged:
            raise FileChanged(source.path)


def _publish(context: Context, address: str, digests: dict[Source, str]) -> Any:
    """Ask for publication; send again what the server found damaged in the meantime."""
    for attempt in range(1, TRIES + 1):
        try:
            return context.client.post(f"{address}/publish")
        except Refused as error:
            if error.code != "missing_blobs" or attempt == TRIES:
                raise
            _send_missing(context, context.client.get(address)["missing"], digests)
    return None


def _wait(context: Context, address: str) -> Any:
    """Until the server has verified every file. Raises `WaitFailed` if it takes too long."""
    began = time.monotonic()
    timeout = context.arguments.timeout
    bundle = context.client.get(address)
    missing = sum(blob["size"] for blob in bundle.get("missing", []))
    if bundle["state"] != "verifying":
        return bundle
    with context.screen.bar("The server verifies the files", missing or None, in_bytes=True) as bar:
        while bundle["state"] == "verifying":
            waited = time.monotonic() - began
            if timeout is not None and waited > timeout:
                raise WaitFailed(
                    f"{bundle['name']}@{bundle['version']} is still being verified after {timeout} s. It goes on "
                    "without you; is the scheduler running? See `kernex bundles`."
                )
            time.sleep(POLL_SECONDS if waited < 10 else SLOW_POLL_SECONDS)
            bundle = context.client.get(address)
            bar.show(done=missing - sum(blob["size"] for blob in bundle.get("missing", [])))
    return bundle


def _show(screen: Screen, bundle: dict[str, Any], sent: int) -> None:
    label = f"{bundle['name']}@{bundle['version']}"
    held = f"{files(bundle['file_count'])}, {size(bundle['size'])}"
    lines = [f"{label} is {bundle['state']}: {held}, {size(sent)} sent."]
    if bundle["state"] == "ready":
        lines.append(f"Next: kernex deploy {label} --group GROUP --wait")
    elif bundle["state_reason"]:
        lines.append(f"{bundle['state_reason']}. Run the same command again.")
    shown = {name: value for name, value in bundle.items() if name != "missing"}
    screen.result({**shown, "bytes_sent": sent}, *lines)


def files(count: int) -> str:
    """`1 file`, `2 files`."""
    return f"{count} file{'' if count == 1 else 's'}"
