"""The creation of a draft from an uploaded archive: each member becomes an upload that the scheduler verifies."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, BinaryIO
from uuid import UUID, uuid4

from django.contrib.auth.models import User
from django.db import transaction

from bundles.archives.description import NAMES, max_size, parse_description
from bundles.archives.reader import Member, members
from bundles.errors import BadBundle
from bundles.identifiers import Hashed
from bundles.manifest import MAX_FILES, File, Manifest, read
from bundles.models import Blob, Bundle, Upload, UploadState
from bundles.publishing import draft
from bundles.storage.interface import blobs
from bundles.uploads.part_transport import PART_SIZE
from bundles.uploads.protocol import check_space
from foundation.errors import ApiError


def draft_from_archive(
    file: BinaryIO, name: str, version: str, *, actor: str, user: User | None, **described: Any
) -> Bundle:
    """Draft a bundle of the files in a seekable tar, tar.gz or zip.

    `kernex.toml` or `kernex.json` at the archive's root has the fields that files cannot express (`device_types`,
    `requires`, `release_counter`, `hooks`, `run`, `health`) and is not part of the bundle; `described` overrides it. If
    anything is refused, nothing is kept.

    Raises `BadBundle` (see `bundles.archives.reader` and `bundles.manifest`), `Conflict` (`version_exists`,
    `size_differs`), `StorageFull`.
    """
    contents = _Contents()
    try:
        for member in members(file):
            contents.add(member)
        manifest = contents.manifest(name, version, described)
        with transaction.atomic():
            unneeded = contents.start_verifying(user)
            bundle = draft(manifest, actor=actor, user=user).bundle
    except BaseException:
        _discard(contents.uploads.values())
        raise
    _discard(unneeded)
    return bundle


class _Contents:
    """The contents read so far: the files for the manifest, and the upload with the bytes of each blob, by sha256."""

    def __init__(self) -> None:
        self.files: list[File] = []
        self.uploads: dict[str, UUID] = {}
        self.description_path = ""
        self.described: dict[str, Any] = {}

    def add(self, member: Member) -> None:
        if member.path in NAMES:
            self._describe(member)
            return
        if len(self.files) == MAX_FILES:
            raise BadBundle("too_many_files", f"The archive has more than {MAX_FILES} files.")
        check_space(member.size)
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
        if self.description_path:
            raise BadBundle(
                "bad_description", f"The archive has {self.description_path} and {member.path}: keep one of them."
            )
        self.description_path = member.path
        body = b""
        for chunk in member.chunks():
            body += chunk
            if len(body) > max_size(member.path):
                break
        self.described = parse_description(member.path, body)

    def manifest(self, name: str, version: str, described: dict[str, Any]) -> Manifest:
        return read(
            {"schema": 1, "name": name, "version": version, "files": _manifest_files(self.files)}
            | self.described
            | described
        )

    def start_verifying(self, user: User | None) -> list[UUID]:
        """Hand the uploads of new blobs to the scheduler. Return the uploads whose blobs are stored already."""
        stored = Blob.objects.claim(self.uploads)
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
            if sha256 not in stored
        )
        return [upload for sha256, upload in self.uploads.items() if sha256 in stored]


def _discard(uploads: Iterable[UUID]) -> None:
    with suppress(ApiError):  # the scheduler deletes the rest later
        for upload in uploads:
            blobs().discard(upload)


def _manifest_files(files: Iterable[File]) -> list[dict[str, object]]:
    """Return `files` as a manifest lists them."""
    ordered = sorted(files, key=lambda file: file.path)
    return [{"path": file.path, "sha256": file.sha256, "size": file.size, "mode": file.mode} for file in ordered]
