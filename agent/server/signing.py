"""Signed requests: HTTP Message Signatures (RFC 9421) with Ed25519, in the only form that the control plane accepts.

The signature covers the method, the authority, path and query, the digest of the body (RFC 9530) and, on heartbeats,
the sequence number. `keyid` is the public key itself.
"""

import hashlib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class UnsignedRequest:
    """A request before it is signed."""

    method: str
    url: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request with its signature headers. If it is sent again unchanged, the server treats it as a retry."""

    method: str
    url: str
    body: bytes
    headers: dict[str, str]


def key_text(public_key: bytes) -> str:
    """Return the 32 raw bytes of a public key as unpadded base64url: 43 characters."""
    return urlsafe_b64encode(public_key).decode("ascii").rstrip("=")


def digest(body: bytes) -> str:
    """Return the value of the Content-Digest header for `body`."""
    return f"sha-256=:{b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"


def authority(url: str) -> str:
    """Return the host in lower case, with its port unless it is the default port of the scheme."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    return host if parts.port in {None, DEFAULT_PORTS.get(parts.scheme)} else f"{host}:{parts.port}"


def sign(
    private: Sign, public_key: str, request: UnsignedRequest, *, created: int, sequence: int | None = None
) -> SignedRequest:
    """Sign one request.

    `created` is the server's time in seconds since 1970. Only heartbeats have a `sequence`.
    """
    parts = urlsplit(request.url)
    components = [
        ("@method", request.method),
        ("@authority", authority(request.url)),
        ("@path", parts.path or "/"),
        ("@query", f"?{parts.query}"),
        ("content-digest", digest(request.body)),
    ]
    headers = {"Content-Digest": digest(request.body)}
    if sequence is not None:
        components.append(("kernex-sequence", str(sequence)))
        headers["Kernex-Sequence"] = str(sequence)
    covered = " ".join(f'"{name}"' for name, _ in components)
    parameters = f'({covered});created={created};keyid="{public_key}";alg="ed25519"'
    lines = [*(f'"{name}": {value}' for name, value in components), f'"@signature-params": {parameters}']
    signature = private("\n".join(lines).encode("utf-8"))
    headers["Signature-Input"] = f"kernex={parameters}"
    headers["Signature"] = f"kernex=:{b64encode(signature).decode('ascii')}:"
    return SignedRequest(request.method, request.url, request.body, headers)
