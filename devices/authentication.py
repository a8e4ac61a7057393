"""Authentication of devices: each request is signed with the device's key, and no secret is sent."""

import time
from typing import Any, cast
from urllib.parse import urlsplit

from django.http import HttpRequest
from django.utils.encoding import escape_uri_path
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from devices.models import Device, DeviceState
from devices.signatures import SignedRequest, VerifiedSignature, verify
from foundation.api.parsers import read_body
from foundation.errors import ApiError, Forbidden, NotSigned

DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def signed_request(request: HttpRequest) -> SignedRequest:
    """Collect the parts of a request that its signature covers. Reads the body, at most `MAX_BODY_SIZE` bytes."""
    headers = request.META
    return SignedRequest(
        method=request.method or "",
        authority=request.get_host().lower().removesuffix(DEFAULT_PORTS[request.scheme or "http"]),
        path=path_as_sent(request),
        query=headers.get("QUERY_STRING", ""),
        body=read_body(request),
        content_digest=headers.get("HTTP_CONTENT_DIGEST"),
        signature_input=headers.get("HTTP_SIGNATURE_INPUT"),
        signature=headers.get("HTTP_SIGNATURE"),
        sequence=headers.get("HTTP_KERNEX_SEQUENCE"),
    )


def path_as_sent(request: HttpRequest) -> str:
    """Return the path without decoding.

    WSGI decodes it, so that `%68eartbeat` and `heartbeat` look the same: one signature would cover both. gunicorn also
    keeps the request target as it was sent. Django's development server does not, so the path is encoded again there.
    """
    target = request.META.get("RAW_URI")
    return urlsplit(target).path if target else escape_uri_path(request.path)


def verify_request(request: HttpRequest, *, sequenced: bool = False) -> VerifiedSignature:
    """Verify a request's signature by the server's clock.

    Raises:
        NotSigned: see `devices.signatures.verify`.
    """
    return verify(signed_request(request), now=time.time(), sequenced=sequenced)


def unknown_device() -> NotSigned:
    """Return the error for a key that is not registered, or not under this id."""
    return NotSigned("unknown_device", "No device has this id and this key: register the key.")


def refusal(state: str) -> ApiError:
    """Return the error for a device in `state`, which is not accepted."""
    if state == DeviceState.DECOMMISSIONED:
        return Forbidden("decommissioned", "This device was decommissioned; enrol it again with a new key.")
    return Forbidden("pending", "This device is waiting for an operator's approval; continue to send heartbeats.")


class DeviceSignature(BaseAuthentication):
    """An accepted device: sets `request.user` to the `Device` and `request.auth` to the `VerifiedSignature`.

    If the URL has a `device_id`, it must be the id of the device that signed.
    """

    def authenticate(self, request: Request) -> tuple[Any, VerifiedSignature]:
        signature = verify_request(request._request)
        device = Device.objects.select_related("group").filter(public_key=signature.public_key).first()
        id_in_url = request.parser_context["kwargs"].get("device_id")
        if device is None or id_in_url not in {None, device.id}:
            raise unknown_device()
        if device.state != DeviceState.ACCEPTED:
            raise refusal(device.state)
        return device, signature

    def authenticate_header(self, request: Request) -> str:
        return "Signature"


class KeyPossession(BaseAuthentication):
    """The holder of any key, registered or not: sets only `request.auth`. For registration."""

    def authenticate(self, request: Request) -> tuple[Any, VerifiedSignature]:
        return None, verify_request(request._request)

    def authenticate_header(self, request: Request) -> str:
        return "Signature"


def signature_of(request: Request) -> VerifiedSignature:
    """Return the signature of a request that `DeviceSignature` or `KeyPossession` authenticated."""
    return cast(VerifiedSignature, request.auth)


def device_of(request: Request) -> Device:
    """Return the device that sent a request that `DeviceSignature` authenticated."""
    return cast(Device, request.user)


class SignatureScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes the signature in OpenAPI, which has no type for RFC 9421."""

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
