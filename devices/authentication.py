"""Who is asking, on the device API: proven by a signature, not by a secret that travels."""

import time
from typing import Any, cast

from django.http import HttpRequest
from django.utils.encoding import escape_uri_path
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from devices.models import Device, DeviceState
from devices.signatures import Message, SignedRequest, verify
from foundation.api.parsers import read_body
from foundation.errors import ApiError, Forbidden, NotSigned

DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def message_of(request: HttpRequest) -> Message:
    """The parts of a request that its signature covers. Reads the body, at most `MAX_BODY_SIZE` bytes."""
    headers = request.META
    return Message(
        method=request.method or "",
        authority=request.get_host().lower().removesuffix(DEFAULT_PORTS[request.scheme or "http"]),
        path=escape_uri_path(request.path),
        query=headers.get("QUERY_STRING", ""),
        body=read_body(request),
        content_digest=headers.get("HTTP_CONTENT_DIGEST"),
        signature_input=headers.get("HTTP_SIGNATURE_INPUT"),
        signature=headers.get("HTTP_SIGNATURE"),
        sequence=headers.get("HTTP_KERNEX_SEQUENCE"),
    )


def signed(request: HttpRequest, *, sequenced: bool = False) -> SignedRequest:
    """Verify a request's signature by the server's clock."""
    return verify(message_of(request), now=time.time(), sequenced=sequenced)


def unknown_device() -> NotSigned:
    return NotSigned("unknown_device", "No device with this key is known here (by this id); register it.")


def refusal(state: str) -> ApiError:
    """Why a device that is not accepted may not do what it asked for."""
    if state == DeviceState.DECOMMISSIONED:
        return Forbidden("decommissioned", "This device was decommissioned; an operator has to enrol a new key.")
    return Forbidden("pending", "This device waits for an operator's approval; go on sending heartbeats.")


class DeviceSignature(BaseAuthentication):
    """An accepted device: sets `request.user` to the `Device` and `request.auth` to the `SignedRequest`.

    Where the address names a device by `device_id`, it has to be the one that signed.
    """

    def authenticate(self, request: Request) -> tuple[Any, SignedRequest]:
        proof = signed(request._request)
        device = Device.objects.select_related("group").filter(public_key=proof.public_key).first()
        named = request.parser_context["kwargs"].get("device_id")
        if device is None or named not in {None, device.id}:
            raise unknown_device()
        if device.state != DeviceState.ACCEPTED:
            raise refusal(device.state)
        return device, proof

    def authenticate_header(self, request: Request) -> str:
        return "Signature"


class KeyPossession(BaseAuthentication):
    """Somebody who holds a key, known here or not: sets only `request.auth`. For registration."""

    def authenticate(self, request: Request) -> tuple[Any, SignedRequest]:
        return None, signed(request._request)

    def authenticate_header(self, request: Request) -> str:
        return "Signature"


def proof_of(request: Request) -> SignedRequest:
    """The verified signature of a request behind `DeviceSignature` or `KeyPossession`."""
    return cast(SignedRequest, request.auth)


def device_of(request: Request) -> Device:
    """The device that sent a request behind `DeviceSignature`."""
    return cast(Device, request.user)


class SignatureScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How OpenAPI names the signature; it has no word of its own for RFC 9421."""

    target_class = "devices.authentication.DeviceSignature"
    name = "deviceSignature"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Signature",
            "description": "HTTP Message Signatures (RFC 9421) with the device's Ed25519 key: see docs/device-api.md.",
        }


class PossessionScheme(SignatureScheme):  # type: ignore[no-untyped-call]
    target_class = "devices.authentication.KeyPossession"
    name = "keyPossession"
