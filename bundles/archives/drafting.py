"""Making a draft from an uploaded archive: each member becomes an upload that the scheduler verifies."""

import tomllib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, BinaryIO
from uuid import UUID, uuid4

from django.contrib.auth.models import User
from django.db import transaction

from bundles.archives.reader import Member, members
from bundles.errors import BadBundle
from bundles.manifest import MAX_FILES, File, Manifest, canonical, read, sorted_files
from bundles.models import Blob, Bundle, Upload, UploadState
from bundles.publishing import draft
from bundles.storage.interface import blobs
from bundles.uploads.protocol import PART_SIZE, Hashed
from foundation.api.parsers import parse_json
from foundation.errors import ApiError, BadRequest

DESCRIPTIONS = {"kernex.toml", "kernex.json"}
DESCRIBED = {"device_types", "requires", "release_counter", "hooks", "run", "health"}
MAX_DESCRIPTION_SIZE = 256 * 1024


def draft_from_archive(
    file: BinaryIO, name: str, version: str, *, actor: str, user: User | None, **described: Any
) -> Bundle:
    """A draft of what a seekable tar, tar.gz or zip holds; publish it as any other.

    `kernex.toml` or `kernex.json` at the archive's root says what files cannot (`device_types`, `requires`,
    `release_counter`, `hooks`, `run`, `health`) and is not part of the bundle; `described` wins over it. When
    anything is refused, nothing is kept.

    Raises `BadBundle` (see `bundles.archives.reader` and `bundles.manifest`), `Conflict` (`version_exists`,
    `size_differs`), `StorageFull`.
    """
    intake = _Intake()
    try:
        for member in members(file):
            intake.take(member)
        manifest = intake.manifest(name, version, described)
        with transaction.atomic():
            intake.hand_over(user)
            bundle, _ = draft(manifest, actor=actor, user=user)
    except BaseException:
        intake.discard(intake.uploads.values())
        raise
    intake.discard(intake.needless)
    return bundle


class _Intake:
    """What was read so far: the files for the manifest, and under which upload the bytes of each blob lie."""

    def __init__(self) -> None:
        self.files: list[File] = []
        self.uploads: dict[str, UUID] = {}
        self.needless: list[UUID] = []
        self.described: dict[str, Any] = {}

    def take(self, member: Member) -> None:
        if member.path in DESCRIPTIONS:
            self._describe(member)
            return
        if len(self.files) == MAX_FILES:
            raise BadBundle("too_many_files", f"The archive has more than {MAX_FILES} files.")
        hashed, upload = Hashed(member.chunks()), uuid4()
        try:
            blobs().write(upload, 0, hashed, lambda: True)
        except BaseException:
            blobs().discard(upload)
            raise
        self.files.append(File(member.path, hashed.sha256, hashed.size, member.mode))
        if self.uploads.setdefault(hashed.sha256, upload) != upload:
            blobs().discard(upload)

    def _describe(self, member: Member) -> None:
        if self.described:
            raise BadBundle("bad_description", "The archive holds two descriptions: keep kernex.toml or kernex.json.")
        body = b""
        for chunk in member.chunks():
            body += chunk
            if len(body) > MAX_DESCRIPTION_SIZE:
                raise BadBundle("bad_description", f"{member.path} is larger than {MAX_DESCRIPTION_SIZE} bytes.")
        self.described = describe(member.path, body)

    def manifest(self, name: str, version: str, described: dict[str, Any]) -> Manifest:
        return read(
            {"schema": 1, "name": name, "version": version, "files": sorted_files(self.files)}
            | self.described
            | described
        )

    def hand_over(self, user: User | None) -> None:
        """Blobs that are new go to the scheduler; the bytes of the others are not needed."""
        known = set(Blob.objects.filter(sha256__in=self.uploads).values_list("sha256", flat=True))
        self.needless = [upload for sha256, upload in self.uploads.items() if sha256 in known]
        sizes = {file.sha256: file.size for file in self.files}
        Upload.objects.bulk_create(
            Upload(
                pk=upload,
                sha256=sha256,
                size=sizes[sha256],
                part_size=PART_SIZE,
                state=UploadState.VERIFYING,
                created_by=user,
            )
            for sha256, upload in self.uploads.items()
            if sha256 not in known
        )

    def discard(self, uploads: Iterable[UUID]) -> None:
        with suppress(ApiError):  # what stays is swept later
            for upload in uploads:
                blobs().discard(upload)


def describe(path: str, body: bytes) -> dict[str, Any]:
    """The manifest members that a description gives. Raises `BadBundle` (`bad_description`)."""
    try:
        value = parse_json(body) if path.endswith(".json") else tomllib.loads(body.decode("utf-8"))
        canonical(value)  # TOML also knows times, and numbers that JSON does not
    except (ValueError, TypeError, RecursionError, BadRequest) as error:
        raise BadBundle("bad_description", f"{path} cannot be understood: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise BadBundle("bad_description", f"{path} is no table of members such as `run` and `health`.")
    if unknown := sorted(value.keys() - DESCRIBED):
        raise BadBundle("bad_description", f"{path} has the member {unknown[0]!a}, which does not belong there.")
    return value
