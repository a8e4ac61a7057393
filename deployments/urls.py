"""The addresses of the deployments room, below /api/v1/."""

from django.urls import path, register_converter
from django.urls.converters import StringConverter

from bundles.manifest import NAME_PATTERN
from deployments.device_views import BlobBytes, Manifest, Result
from deployments.history_views import DeviceDeployments
from deployments.views import CancelDeployment, DeploymentDevices, Deployments, OneDeployment


class Sha256(StringConverter):
    regex = "[0-9a-f]{64}"


class Word(StringConverter):
    """A bundle's name or version."""

    regex = NAME_PATTERN


register_converter(Sha256, "sha256")
register_converter(Word, "word")

urlpatterns = [
    path("deployments", Deployments.as_view(), name="deployments"),
    path("deployments/<uuid:deployment_id>", OneDeployment.as_view(), name="deployment"),
    path("deployments/<uuid:deployment_id>/devices", DeploymentDevices.as_view(), name="deployment-devices"),
    path("deployments/<uuid:deployment_id>/cancel", CancelDeployment.as_view(), name="deployment-cancel"),
    path("deployments/<uuid:deployment_id>/result", Result.as_view(), name="deployment-result"),
    path("devices/<uuid:device_id>/deployments", DeviceDeployments.as_view(), name="device-deployments"),
    path("trust/targets/<word:name>/<sha256:manifest_sha256>.<word:version>.json", Manifest.as_view(), name="manifest"),
    path("blobs/<sha256:sha256>", BlobBytes.as_view(), name="blob"),
]
