"""The agent's signatures are equal to the examples that the server verifies."""

import json
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.server.signing import UnsignedRequest, authority, key_text, sign

EXAMPLES: list[dict[str, Any]] = json.loads((Path(__file__).parent.parent / "contract" / "signatures.json").read_text())


@pytest.mark.parametrize(
    "example", [example for example in EXAMPLES if example["valid"]], ids=lambda example: example["why"]
)
def test_the_signature_headers_equal_the_examples(example: dict[str, Any]) -> None:
    key = Ed25519PrivateKey.from_private_bytes(urlsafe_b64decode(example["private_key"] + "="))
    public = key_text(key.public_key().public_bytes_raw())
    signed = sign(
        key.sign, public, UnsignedRequest(example["method"], example["url"], (example["body"] or "").encode()),
        created=example["created"], sequence=example["sequence"],
    )  # fmt: skip
    assert signed.headers == example["headers"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Fleet.Example.com/x", "fleet.example.com"),
        ("https://fleet.example.com:443/x", "fleet.example.com"),
        ("http://fleet.example.com:80/x", "fleet.example.com"),
        ("http://fleet.example.com:443/x", "fleet.example.com:443"),
        ("https://[2001:DB8::1]:8443/x", "[2001:db8::1]:8443"),
    ],
)
def test_the_authority_omits_the_default_port_of_the_scheme(url: str, expected: str) -> None:
    assert authority(url) == expected
