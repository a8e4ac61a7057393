"""Request bodies that are larger than the API's ordinary limit: manifests, and parts of uploads."""

import base64
import re
from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any, cast

from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from bundles.manifest import MAX_MANIFEST_SIZE
from bundles.uploads.part_transport import PART_SIZE, PartBody, Readable
from foundation.api.parsers import chunked, parse_json
from foundation.errors import BadRequest, TooLarge

# Space for `{"manifest": …}` around the largest manifest, with generous whitespace.
MAX_BODY_SIZE = MAX_MANIFEST_SIZE + 1024 * 1024
_CONTENT_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")


def content_length(request: Request) -> int:
    """Return the length of the body in bytes.

    Raises `LengthRequired`: a body without a length, or a chunked one, cannot be bounded.
    """
    length = request.META.get("CONTENT_LENGTH") or ""
    if "HTTP_TRANSFER_ENCODING" in request.META or not re.fullmatch(r"[0-9]{1,18}", length):
        raise chunked()
    return int(length)


def part_body(request: Request) -> PartBody:
    """Return the part in a request, with none of its bytes read yet.

    Raises: `LengthRequired`, `TooLarge`, `BadRequest` (`bad_digest`), DRF's `UnsupportedMediaType`.
    """
    length = content_length(request)
    if length > PART_SIZE:
        raise TooLarge("too_large", f"A part may be at most {PART_SIZE} bytes.")
    digest = _CONTENT_DIGEST.fullmatch(request.headers.get("Content-Digest", ""))
    if digest is None:
        raise BadRequest("bad_digest", "Send `Content-Digest: sha-256=:<base64>:` over the part's bytes.")
    return PartBody(cast(Readable, request.data) if length else BytesIO(), length, base64.b64decode(digest[1]).hex())


class OctetStream(BaseParser):
    """Returns the stream unread: the reader decides how much to read at a time."""

    media_type = "application/octet-stream"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        return stream


class ManifestJson(BaseParser):
    """Strict JSON as everywhere in the API, but with a limit that fits a manifest."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        length = content_length((parser_context or {})["request"])
        if length > MAX_BODY_SIZE:
            raise TooLarge("too_large", f"The body is larger than {MAX_BODY_SIZE} bytes.")
        # Not `request.body`, which has the ordinary limit.
        body = stream.read(length)
        if len(body) < length:
            raise BadRequest("body_cut", "The connection was closed before the body was complete.")
        return parse_json(body)
