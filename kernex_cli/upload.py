"""Blobs on their way to the server: in parts, with constant memory, taken up again where they were cut.

The server remembers which parts it has. Whatever ended the last try, a cut line, a killed process or a restarted
server, the same command again asks for those and sends the rest. Where the server keeps bundles in a bucket, parts go
to that storage itself (`kernex_cli.direct`).
"""

import base64
import hashlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kernex_cli.client import Client
from kernex_cli.direct import Storage
from kernex_cli.errors import Refused, WaitFailed
from kernex_cli.tree import Source

# Files up to this size go several at a time: for them the round trips take longer than the bytes.
SMALL_SIZE = 4 * 1024 * 1024
SIDE_BY_SIDE = 4
TRIES = 3
# The bytes were damaged or cut on the way; sending them again can help.
DAMAGED = {"bad_digest", "body_cut"}

Advance = Callable[[int], None]


class Range:
    """A part of a file as a request body: sized, and read anew from the file each time it is sent."""

    def __init__(self, source: Source, offset: int, length: int) -> None:
        self.source = source
        self.offset = offset
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[bytes]:
        return self.source.read(self.offset, self.length)


def upload_all(client: Client, sources: Sequence[tuple[str, Source]], advance: Advance) -> int:
    """Send each (sha256, source): small ones side by side, large ones one after the other. Returns the bytes sent.

    `advance` is told the bytes that the server has, also those that it had before. Raises `FileChanged`,
    `Unreachable`, `Refused`.
    """
    storage = Storage(client)
    small = [pair for pair in sources if pair[1].size <= SMALL_SIZE]
    large = [pair for pair in sources if pair[1].size > SMALL_SIZE]
    sent = side_by_side(lambda pair: upload(client, storage, *pair, advance), small)
    return sent + sum(upload(client, storage, *pair, advance) for pair in large)


def upload(client: Client, storage: Storage, sha256: str, source: Source, advance: Advance) -> int:
    """Send one blob and hand it to be verified. It is done when the server has every part. Returns the bytes sent."""
    there: set[int] = set()  # the parts that `advance` was told of
    sent = 0
    for _ in range(TRIES):
        # A small file is one part: where it goes, if it goes to storage, is then answered at once.
        parts = [_line(source, 1, 0, source.size)] if 0 < source.size <= SMALL_SIZE else []
        answer = client.post("/uploads", {"sha256": sha256, "size": source.size, "parts": parts})
        if answer["state"] != "open":
            if not there:
                advance(source.size)
            return sent
        sent += _send_parts(client, storage, answer, source, there, advance)
        try:
            client.post(f"/uploads/{answer['id']}/complete")
        except Refused as error:
            if error.code not in {"parts_missing", "upload_closed"}:
                raise
        else:
            return sent
    raise WaitFailed(f"The server lost parts of {source.path!a} {TRIES} times: look into its log and its disk.")


def _send_parts(
    client: Client, storage: Storage, upload: dict[str, Any], source: Source, there: set[int], advance: Advance
) -> int:
    """Send the parts that the server does not have, or has otherwise. Returns the bytes sent."""
    known = {part["number"]: part["sha256"] for part in upload["parts"]}
    part_size: int = upload["part_size"]
    # What was answered to the first call is the address of the whole file.
    addresses = {line["number"]: line for line in upload.get("addresses", []) if source.size <= part_size}
    sent = 0
    for number, offset in enumerate(range(0, source.size, part_size), start=1):
        length = min(part_size, source.size - offset)
        line = _line(source, number, offset, length)
        if known.get(number) != line["sha256"]:
            body = Range(source, offset, length)
            if upload.get("direct"):
                is_sent = storage.send(upload["id"], line, body, addresses.get(number))
            else:
                is_sent = _send(client, f"/uploads/{upload['id']}/parts/{number}", body, bytes.fromhex(line["sha256"]))
            if not is_sent:
                return sent
            sent += length
        if number not in there:
            advance(length)
            there.add(number)
    return sent


def _line(source: Source, number: int, offset: int, length: int) -> dict[str, Any]:
    """What announces a part. MD5 is what storage compares with; what a file is, sha256 decides."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for chunk in source.read(offset, length):
        sha256.update(chunk)
        md5.update(chunk)
    return {"number": number, "sha256": sha256.hexdigest(), "md5": md5.hexdigest()}


def _send(client: Client, path: str, body: Range, digest: bytes) -> bool:
    """Send one part. False when the upload is closed: it is then asked for anew."""
    headers = {
        "Content-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
        "Content-Type": "application/octet-stream",
    }
    for attempt in range(1, TRIES + 1):
        try:
            client.call("PUT", path, data=body, headers=headers)
        except Refused as error:
            if error.code == "upload_closed":
                return False
            if error.code not in DAMAGED or attempt == TRIES:
                raise
        else:
            return True
    return False


def side_by_side(work: Callable[[tuple[str, Source]], int], items: Sequence[tuple[str, Source]]) -> int:
    """Do `work` for all items, a few at a time. Returns the sum of what it returned; raises the first failure.

    The threads are daemons: an interrupt ends the command at once, without waiting for answers.
    """
    waiting: queue.SimpleQueue[tuple[str, Source]] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    results: list[int] = []
    failures: list[BaseException] = []

    def run() -> None:
        while not failures:
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                results.append(work(item))
            except BaseException as error:
                failures.append(error)  # raised below, by the thread that asked

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(SIDE_BY_SIDE, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(results)
