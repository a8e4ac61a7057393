"""The destinations of backups: a directory, or a bucket that the storage key in the settings can write to."""

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings

from bundles.storage.disk import create_directory, sync_directory
from bundles.storage.s3_client import ABSENT, Bucket, code_of

# Three root classes: error responses, connection errors, and errors of boto3's transfers.
BUCKET_ERRORS = (ClientError, BotoCoreError, Boto3Error)


class DestinationFailed(Exception):
    """The destination cannot be used. The message says what to do."""


class Destination(Protocol):
    """Where backups are stored. Names are relative, with slashes. Every method raises `DestinationFailed`."""

    def has(self, name: str) -> bool: ...

    def put(self, source: Path, name: str) -> None:
        """Store the content of the file `source` under `name`, completely or not at all."""

    def get(self, name: str, target: Path) -> None:
        """Copy the content of `name` to the file `target`."""

    def directories(self) -> list[str]:
        """Return the names of the top-level directories."""

    def names(self, directory: str) -> Iterable[str]:
        """Yield the names of all files under a directory."""

    def delete(self, name: str) -> None:
        """Delete the file `name`, if it exists."""

    def delete_directory(self, name: str) -> None:
        """Delete a top-level directory and everything in it."""


class DirectoryDestination:
    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def put(self, source: Path, name: str) -> None:
        target = self.path / name
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            create_directory(target.parent)
            with source.open("rb") as read, part.open("wb") as written:
                os.fchmod(written.fileno(), 0o600)
                shutil.copyfileobj(read, written, 1024 * 1024)
                written.flush()
                os.fsync(written.fileno())
            part.replace(target)
            sync_directory(target.parent)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise DestinationFailed(f"{target} cannot be written: {error.strerror}.") from error

    def get(self, name: str, target: Path) -> None:
        try:
            shutil.copyfile(self.path / name, target)
        except OSError as error:
            raise DestinationFailed(f"{self.path / name} cannot be read: {error.strerror}.") from error

    def directories(self) -> list[str]:
        try:
            return [path.name for path in self.path.iterdir() if path.is_dir()]
        except OSError as error:
            raise DestinationFailed(f"{self.path} cannot be read: {error.strerror}.") from error

    def names(self, directory: str) -> Iterable[str]:
        for path in sorted((self.path / directory).rglob("*")):
            if path.is_file():
                yield str(path.relative_to(self.path))

    def delete(self, name: str) -> None:
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise DestinationFailed(f"{self.path / name} cannot be deleted: {error.strerror}.") from error

    def delete_directory(self, name: str) -> None:
        try:
            shutil.rmtree(self.path / name)
        except OSError as error:
            raise DestinationFailed(f"{self.path / name} cannot be deleted: {error.strerror}.") from error


class BucketDestination:
    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self.client = Bucket(**{**settings.BUCKET, "bucket_name": bucket}).patient

    def has(self, name: str) -> bool:
        try:
            self.client.head_object(Bucket=self.bucket, Key=self.prefix + name)
        except ClientError as error:
            if code_of(error) in ABSENT:
                return False
            raise self._failed(error) from error
        except BUCKET_ERRORS as error:
            raise self._failed(error) from error
        return True

    def put(self, source: Path, name: str) -> None:
        try:
            self.client.upload_file(str(source), self.bucket, self.prefix + name)
        except (*BUCKET_ERRORS, OSError) as error:
            raise self._failed(error) from error

    def get(self, name: str, target: Path) -> None:
        try:
            self.client.download_file(self.bucket, self.prefix + name, str(target))
        except (*BUCKET_ERRORS, OSError) as error:
            raise self._failed(error) from error

    def directories(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix, Delimiter="/"
        )
        try:
            prefixes = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
        except BUCKET_ERRORS as error:
            raise self._failed(error) from error
        return [prefix.removeprefix(self.prefix).rstrip("/") for prefix in prefixes]

    def names(self, directory: str) -> Iterable[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{self.prefix}{directory}/"
        )
        try:
            for page in pages:
                for entry in page.get("Contents", []):
                    yield str(entry["Key"]).removeprefix(self.prefix)
        except BUCKET_ERRORS as error:
            raise self._failed(error) from error

    def delete(self, name: str) -> None:
        try:
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + name)
        except BUCKET_ERRORS as error:
            raise self._failed(error) from error

    def delete_directory(self, name: str) -> None:
        for entry in list(self.names(name)):
            self.delete(entry)

    def _failed(self, error: Exception) -> DestinationFailed:
        return DestinationFailed(f"The bucket {self.bucket} cannot be used: {str(error).partition(chr(10))[0][:300]}")


def parse_destination(text: str) -> Destination:
    """Parse `s3://BUCKET/PREFIX` or the path of a directory. Raises `DestinationFailed`."""
    if not text.startswith("s3://"):
        return DirectoryDestination(Path(text).expanduser().absolute())
    if not settings.STORAGE_BUCKET:
        raise DestinationFailed("s3:// needs object storage: set STORAGE_BUCKET and its key (STORAGE_ACCESS_KEY).")
    url = urlsplit(text)
    if not url.netloc:
        raise DestinationFailed("Name the bucket: s3://BUCKET/PREFIX.")
    return BucketDestination(url.netloc, url.path.strip("/"))
