"""Signed requests: HTTP Message Signatures (RFC 9421) with Ed25519, in the one form that the control plane reads.

Covered are the method, authority, path and query, the digest of the body (RFC 9530) and, on heartbeats, the sequence
number. `keyid` is the public key itself.
"""

import hashlib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request that may be sent as it is, and again: said twice it is a retry."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


def key_text(public_key: bytes) -> str:
    """The 32 raw bytes of a public key as unpadded base64url: 43 characters."""
    return urlsafe_b64encode(public_key).decode("ascii").rstrip("=")


def digest(body: bytes) -> str:
    """The value of the Content-Digest header for `body`."""
    return f"sha-256=:{b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"


def authority(url: str) -> str:
    """The host in lower case, with its port unless it is the scheme's own."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    return host if parts.port in {None, DEFAULT_PORTS.get(parts.scheme)} else f"{host}:{parts.port}"


def sign(
    private: Sign, public_key: str, method: str, url: str, body: bytes, *, created: int, sequence: int | None = None
) -> SignedRequest:
    """Sign one request. `created` is seconds since 1970 by the server's clock; only heartbeats have a `sequence`."""
    parts = urlsplit(url)
    lines = [
        ("@method", method),
        ("@authority", authority(url)),
        ("@path", parts.path or "/"),
        ("@query", f"?{parts.query}"),
        ("content-digest", digest(body)),
    ]
    headers = {"Content-Digest": digest(body)}
    if sequence is not None:
        lines.append(("kernex-sequence", str(sequence)))
        headers["Kernex-Sequence"] = str(sequence)
    covered = " ".join(f'"{name}"' for name, _ in lines)
    parameters = f'({covered});created={created};keyid="{public_key}";alg="ed25519"'
    base = "\n".join([*(f'"{name}": {value}' for name, value in lines), f'"@signature-params": {parameters}'])
    headers["Signature-Input"] = f"kernex={parameters}"
    headers["Signature"] = f"kernex=:{b64encode(private(base.encode('utf-8'))).decode('ascii')}:"
    return SignedRequest(method, url, headers, body)
