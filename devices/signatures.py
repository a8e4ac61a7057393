"""Signed requests: HTTP Message Signatures (RFC 9421) in one fixed form, verified without a database.

A request is signed with Ed25519 over its method, authority, path, query and the digest of its body (RFC 9530), and on
heartbeats over its sequence number. `keyid` is the public key itself. Every form other than the one in
docs/device-api.md is refused, so that a request can be read in only one way:

    not_signed      a header is missing
    bad_signature   a header has another form, or the signature is not that of the key
    bad_digest      the body is not the one that was signed
    clock_skew      `created` is too far from the server's time
"""

import hashlib
import re
from base64 import b64decode, b64encode, urlsafe_b64decode
from dataclasses import dataclass
from datetime import UTC, datetime

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from foundation.errors import NotSigned

CLOCK_SKEW_SECONDS = 300
MAX_SEQUENCE = 2**53 - 1  # the largest integer that every JSON reader keeps exact

# The last character of 32 (64) encoded bytes has two (four) spare bits: zero, or a key would have several spellings.
PUBLIC_KEY_PATTERN = "[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]"
_SIGNATURE = re.compile(r"kernex=:([A-Za-z0-9+/]{85}[AQgw]==):")
_SEQUENCE = re.compile(r"[1-9][0-9]{0,15}")
_COVERED = r'\("@method" "@authority" "@path" "@query" "content-digest"%s\)'
_PARAMETERS = rf';created=([1-9][0-9]{{0,11}});keyid="({PUBLIC_KEY_PATTERN})";alg="ed25519"'
_INPUT = re.compile("kernex=(" + _COVERED % "" + _PARAMETERS + ")")
_SEQUENCED_INPUT = re.compile("kernex=(" + _COVERED % ' "kernex-sequence"' + _PARAMETERS + ")")


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The parts of a request that its signature covers, not verified yet. A missing header is None.

    `authority` is the host in lower case without the scheme's default port, `path` is the path as it was sent, without
    decoding, and `query` comes without its question mark.
    """

    method: str
    authority: str
    path: str
    query: str
    body: bytes
    content_digest: str | None
    signature_input: str | None
    signature: str | None
    sequence: str | None = None


@dataclass(frozen=True, slots=True)
class VerifiedSignature:
    """What a valid signature proves: the holder of `public_key` signed exactly this request at `created`.

    `created` is in seconds since 1970. `sequence` is None unless the signature had to cover one. `sha256` is the digest
    of the signature: the identical request has the same one.
    """

    public_key: str
    created: int
    sequence: int | None
    sha256: str


def verify(request: SignedRequest, *, now: float, sequenced: bool = False) -> VerifiedSignature:
    """Verify that the key named in the request signed it within `CLOCK_SKEW_SECONDS` of `now`.

    `now` is in seconds since 1970. `sequenced` requires a `Kernex-Sequence` header that the signature covers.

    Raises:
        NotSigned: with one of the codes at the top of this file; `clock_skew` has `server_time` as well.
    """
    if request.content_digest is None or request.signature_input is None or request.signature is None:
        raise NotSigned("not_signed", "Sign the request: Content-Digest, Signature-Input and Signature are required.")
    if sequenced and request.sequence is None:
        raise NotSigned("not_signed", "Sign the request: a heartbeat requires the header Kernex-Sequence as well.")
    parameters = (_SEQUENCED_INPUT if sequenced else _INPUT).fullmatch(request.signature_input)
    signature = _SIGNATURE.fullmatch(request.signature)
    if parameters is None or signature is None:
        raise NotSigned("bad_signature", "Signature-Input or Signature does not have the form in docs/device-api.md.")
    sequence = _sequence(request.sequence or "") if sequenced else None
    if request.content_digest != digest(request.body):
        raise NotSigned("bad_digest", "Content-Digest is not `sha-256=:…:` of the body that arrived.")
    base, created, public_key = signature_base(request, parameters[1], sequenced), int(parameters[2]), parameters[3]
    raw_signature = b64decode(signature[1])
    try:
        crypto_sign_open(raw_signature + base, urlsafe_b64decode(public_key + "="))
    except BadSignatureError:
        raise NotSigned("bad_signature", "The signature is not that of the key in `keyid` over this request.") from None
    if abs(now - created) > CLOCK_SKEW_SECONDS:
        raise _clock_skew(now)
    return VerifiedSignature(public_key, created, sequence, hashlib.sha256(raw_signature).hexdigest())


def digest(body: bytes) -> str:
    """Return the value of the Content-Digest header for `body`."""
    return f"sha-256=:{b64encode(hashlib.sha256(body).digest()).decode()}:"


def signature_base(request: SignedRequest, parameters: str, sequenced: bool) -> bytes:
    """Return the bytes that are signed (RFC 9421, section 2.5): one line per component, no newline at the end."""
    sequence = f'"kernex-sequence": {request.sequence}\n' if sequenced else ""
    base = (
        f'"@method": {request.method}\n'
        f'"@authority": {request.authority}\n'
        f'"@path": {request.path}\n'
        f'"@query": ?{request.query}\n'
        f'"content-digest": {request.content_digest}\n'
        f"{sequence}"
        f'"@signature-params": {parameters}'
    )
    return base.encode("utf-8", "surrogateescape")


def _sequence(text: str) -> int:
    if _SEQUENCE.fullmatch(text) is None or int(text) > MAX_SEQUENCE:
        raise NotSigned("bad_signature", f"Kernex-Sequence must be a whole number from 1 to {MAX_SEQUENCE}.")
    return int(text)


def _clock_skew(now: float) -> NotSigned:
    server_time = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return NotSigned(
        "clock_skew",
        f"`created` is more than {CLOCK_SKEW_SECONDS} seconds from the server's time; sign again with `server_time`.",
        server_time=server_time,
    )
