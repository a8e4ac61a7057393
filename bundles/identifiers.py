"""The format of names, versions and digests, and the computation of digests.

Names and versions are written together as a label, `vad@1.0.0`. A digest is a sha256 in lowercase hexadecimal.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.urls import register_converter
from django.urls.converters import StringConverter

NAME_LENGTH = 63
SHA256_LENGTH = 64
# Not anchored: for `fullmatch`, and for URLs.
NAME_PATTERN = r"[a-z0-9][a-z0-9._+-]{0,62}"
SHA256_PATTERN = r"[0-9a-f]{64}"
# Anchored: for serializers, forms and constraints in the database.
ANCHORED_NAME_PATTERN = f"^{NAME_PATTERN}$"
ANCHORED_SHA256_PATTERN = f"^{SHA256_PATTERN}$"

_NAME = re.compile(NAME_PATTERN)
_SHA256 = re.compile(SHA256_PATTERN)


class NameConverter(StringConverter):
    """A bundle's name or version in a URL, registered as `name`."""

    regex = NAME_PATTERN


class Sha256Converter(StringConverter):
    """A sha256 in a URL, registered as `sha256`."""

    regex = SHA256_PATTERN


register_converter(NameConverter, "name")
register_converter(Sha256Converter, "sha256")


def is_name(value: object) -> bool:
    """Return whether `value` is a valid name or version."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def is_sha256(value: object) -> bool:
    """Return whether `value` is 64 lowercase hexadecimal digits."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Digest:
    """The sha256 and the number of bytes of some content."""

    sha256: str
    size: int


class Hashed:
    """Chunks of bytes, hashed and counted as they pass."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._hash.update(chunk)
            self.size += len(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        """The sha256 of what has passed so far."""
        return self._hash.hexdigest()


def digest_of(chunks: Iterable[bytes]) -> Digest:
    """Return the digest of all `chunks` together."""
    hashed = Hashed(chunks)
    for _ in hashed:
        pass
    return Digest(hashed.sha256, hashed.size)
