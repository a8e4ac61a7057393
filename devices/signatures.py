"""Signed requests: HTTP Message Signatures (RFC 9421) in one fixed form, verified without a database.

A request is signed with Ed25519 over its method, authority, path, query and the digest of its body (RFC 9530), and
on heartbeats over its sequence number. The key that signs is named by itself: `keyid` is the public key. Whatever
differs from the form in docs/device-api.md is refused, so that a request has exactly one reading:

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
MAX_SEQUENCE = 2**53 - 1  # every JSON reader keeps it exact

# The last character of 32 (64) encoded bytes has two (four) spare bits: zero, or a key would have several spellings.
PUBLIC_KEY_PATTERN = "[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]"
_SIGNATURE = re.compile(r"kernex=:([A-Za-z0-9+/]{85}[AQgw]==):")
_SEQUENCE = re.compile(r"[1-9][0-9]{0,15}")
_COVERED = r'\("@method" "@authority" "@path" "@query" "content-digest"%s\)'
_PARAMETERS = rf';created=([1-9][0-9]{{0,11}});keyid="({PUBLIC_KEY_PATTERN})";alg="ed25519"'
_INPUT = re.compile("kernex=(" + _COVERED % "" + _PARAMETERS + ")")
_SEQUENCED_INPUT = re.compile("kernex=(" + _COVERED % ' "kernex-sequence"' + _PARAMETERS + ")")


@dataclass(frozen=True, slots=True)
class Message:
    """What of a request takes part in its signature. A header that the request does not have is None.

    `authority` is the host in lower case without the scheme's default port, `path` as it stands on the wire, `query`
    without its question mark.
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
class SignedRequest:
    """What a verified signature proves: whoever holds `public_key` said exactly this at `created`.

    `sequence` is None unless the signature had to cover one; `sha256` names the signature, so that the identical
    request can be known again.
    """

    public_key: str
    created: int
    sequence: int | None
    sha256: str


def verify(message: Message, *, now: float, sequenced: bool = False) -> SignedRequest:
    """Prove that the holder of the key named in the request signed it, about now.

    `now` is in seconds since 1970. `sequenced` demands a `Kernex-Sequence` header and that the signature covers it.

    Raises `NotSigned` with the codes at the head of this file; `clock_skew` also carries `server_time`.
    """
    if message.content_digest is None or message.signature_input is None or message.signature is None:
        raise NotSigned("not_signed", "Sign the request: Content-Digest, Signature-Input and Signature are required.")
    if sequenced and message.sequence is None:
        raise NotSigned("not_signed", "Sign the request: a heartbeat also has the header Kernex-Sequence.")
    parameters = (_SEQUENCED_INPUT if sequenced else _INPUT).fullmatch(message.signature_input)
    signature = _SIGNATURE.fullmatch(message.signature)
    if parameters is None or signature is None:
        raise NotSigned("bad_signature", "Signature-Input or Signature has not the form that docs/device-api.md shows.")
    sequence = _sequence(message.sequence or "") if sequenced else None
    if message.content_digest != digest(message.body):
        raise NotSigned("bad_digest", "Content-Digest is not `sha-256=:…:` of the body that arrived.")
    base, created, public_key = signature_base(message, parameters[1], sequenced), int(parameters[2]), parameters[3]
    raw = b64decode(signature[1])
    try:
        crypto_sign_open(raw + base, urlsafe_b64decode(public_key + "="))
    except BadSignatureError:
        raise NotSigned("bad_signature", "The signature is not that of the key in `keyid` over this request.") from None
    if abs(now - created) > CLOCK_SKEW_SECONDS:
        raise _clock_skew(now)
    return SignedRequest(public_key, created, sequence, hashlib.sha256(raw).hexdigest())


def digest(body: bytes) -> str:
    """The value of the Content-Digest header for `body`."""
    return f"sha-256=:{b64encode(hashlib.sha256(body).digest()).decode()}:"


def signature_base(message: Message, parameters: str, sequenced: bool) -> bytes:
    """The bytes that are signed (RFC 9421, section 2.5): a line for each component, no newline at the end."""
    sequence = f'"kernex-sequence": {message.sequence}\n' if sequenced else ""
    base = (
        f'"@method": {message.method}\n'
        f'"@authority": {message.authority}\n'
        f'"@path": {message.path}\n'
        f'"@query": ?{message.query}\n'
        f'"content-digest": {message.content_digest}\n'
        f"{sequence}"
        f'"@signature-params": {parameters}'
    )
    return base.encode("utf-8", "surrogateescape")


def _sequence(text: str) -> int:
    if _SEQUENCE.fullmatch(text) is None or int(text) > MAX_SEQUENCE:
        raise NotSigned("bad_signature", f"Kernex-Sequence is not a whole number from 1 to {MAX_SEQUENCE}.")
    return int(text)


def _clock_skew(now: float) -> NotSigned:
    server_time = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return NotSigned(
        "clock_skew",
        f"`created` is more than {CLOCK_SKEW_SECONDS} seconds from the server's time; sign again by `server_time`.",
        server_time=server_time,
    )
