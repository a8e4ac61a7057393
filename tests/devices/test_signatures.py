"""Signatures, tested against the contract's examples."""

import json
from base64 import urlsafe_b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from nacl.signing import SigningKey

from devices.signatures import SignedRequest, VerifiedSignature, verify
from foundation.errors import NotSigned
from tests.devices.signing import key_text, sign

EXAMPLES: list[dict[str, Any]] = json.loads((Path(__file__).parent.parent / "contract" / "signatures.json").read_text())
GOOD = [example for example in EXAMPLES if example["valid"]]
BAD = [example for example in EXAMPLES if not example["valid"]]


def reason(example: dict[str, Any]) -> str:
    return str(example["why"])


def key_of(example: dict[str, Any]) -> SigningKey:
    return SigningKey(urlsafe_b64decode(example["private_key"] + "="))


def authority_of(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc.lower().removesuffix({"http": ":80", "https": ":443"}[parts.scheme])


def request_of(example: dict[str, Any]) -> SignedRequest:
    url = urlsplit(example["url"])
    headers = example["headers"]
    return SignedRequest(
        method=example["method"],
        authority=authority_of(example["url"]),
        path=url.path,
        query=url.query,
        body=example["body"].encode(),
        content_digest=headers.get("Content-Digest"),
        signature_input=headers.get("Signature-Input"),
        signature=headers.get("Signature"),
        sequence=headers.get("Kernex-Sequence"),
    )


def check(example: dict[str, Any], request: SignedRequest | None = None) -> VerifiedSignature:
    now = example.get("now", example["created"])
    return verify(request or request_of(example), now=now, sequenced=example["sequence"] is not None)


@pytest.mark.parametrize("example", GOOD, ids=reason)
def test_it_accepts_a_valid_signature(example: dict[str, Any]) -> None:
    signature = check(example)
    assert signature.public_key == key_text(key_of(example))
    assert (signature.created, signature.sequence) == (example["created"], example["sequence"])


@pytest.mark.parametrize("example", GOOD, ids=reason)
def test_a_device_signs_as_in_the_examples(example: dict[str, Any]) -> None:
    url = urlsplit(example["url"])
    headers = sign(
        key_of(example),
        example["method"],
        authority_of(example["url"]),
        url.path + ("?" + url.query if url.query else ""),
        example["body"].encode(),
        created=example["created"],
        sequence=example["sequence"],
    )
    assert headers == example["headers"]


@pytest.mark.parametrize("example", BAD, ids=reason)
def test_it_refuses_a_bad_signature(example: dict[str, Any]) -> None:
    with pytest.raises(NotSigned) as refused:
        check(example)
    assert refused.value.code == example["code"]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("method", "DELETE"),
        ("authority", "evil.example.com"),
        ("path", "/api/v1/devices/register"),
        ("query", "a=c"),
        ("sequence", "8"),
    ],
)
def test_every_part_is_signed(part: str, value: str) -> None:
    example = GOOD[0]
    changed: Any = {part: value}
    with pytest.raises(NotSigned) as refused:
        check(example, replace(request_of(example), **changed))
    assert refused.value.code == "bad_signature"


def test_the_refusal_of_a_wrong_clock_has_the_server_time() -> None:
    example = next(example for example in BAD if example["code"] == "clock_skew")
    with pytest.raises(NotSigned) as refused:
        check(example)
    assert refused.value.extra == {"server_time": "2026-01-01T00:05:01Z"}


def test_only_the_holder_of_the_key_learns_the_server_time() -> None:
    example = next(example for example in BAD if example["code"] == "clock_skew")
    forged = example["headers"]["Signature-Input"].replace(f"created={example['created']}", "created=1")
    with pytest.raises(NotSigned) as refused:
        check(example, replace(request_of(example), signature_input=forged))
    assert refused.value.code == "bad_signature"


def test_signatures_have_different_digests() -> None:
    first, second = check(GOOD[0]), check(GOOD[1])
    assert first.sha256 != second.sha256
    assert first.sha256 == check(GOOD[0]).sha256


@pytest.mark.parametrize("text", ["kernex=()", "", "\udcff", "kernex=:é:", "a" * 60_000, '"' * 5000])
@pytest.mark.parametrize("header", ["signature_input", "signature", "content_digest", "sequence"])
def test_malformed_headers_are_refused(header: str, text: str) -> None:
    changed: Any = {header: text}
    with pytest.raises(NotSigned):
        check(GOOD[0], replace(request_of(GOOD[0]), **changed))
