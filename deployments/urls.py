"""The routes of deployments, under /api/v1/."""

from django.urls import path

import bundles.identifiers  # noqa: F401 - registers the converters `name` and `sha256`
from deployments.device_views import BlobBytes, Manifest, Result
from deployments.history_views import DeviceDeployments
from deployments.previews.views import OnePreview, Previews
from deployments.usage_views import RunningBundle
from deployments.views import (
    CancelDeployment,
    DeploymentDevices,
    Deployments,
    OneDeployment,
    PauseDeployment,
    PromoteDeployment,
    RepeatDeployment,
    ResumeDeployment,
    RetryDeployment,
    RollBackDeployment,
)

urlpatterns = [
    path("deployments", Deployments.as_view(), name="deployments"),
    path("deployments/preview", Previews.as_view(), name="deployment-preview"),
    path("deployments/previews/<uuid:preview_id>", OnePreview.as_view(), name="preview"),
    path("deployments/<uuid:deployment_id>", OneDeployment.as_view(), name="deployment"),
    path("deployments/<uuid:deployment_id>/devices", DeploymentDevices.as_view(), name="deployment-devices"),
    path("deployments/<uuid:deployment_id>/pause", PauseDeployment.as_view(), name="deployment-pause"),
    path("deployments/<uuid:deployment_id>/resume", ResumeDeployment.as_view(), name="deployment-resume"),
    path("deployments/<uuid:deployment_id>/promote", PromoteDeployment.as_view(), name="deployment-promote"),
    path("deployments/<uuid:deployment_id>/roll-back", RollBackDeployment.as_view(), name="deployment-roll-back"),
    path("deployments/<uuid:deployment_id>/retry", RetryDeployment.as_view(), name="deployment-retry"),
    path("deployments/<uuid:deployment_id>/repeat", RepeatDeployment.as_view(), name="deployment-repeat"),
    path("deployments/<uuid:deployment_id>/cancel", CancelDeployment.as_view(), name="deployment-cancel"),
    path("deployments/<uuid:deployment_id>/result", Result.as_view(), name="deployment-result"),
    path("bundles/<name:name>/<name:version>/running", RunningBundle.as_view(), name="bundle-running"),
    path("devices/<uuid:device_id>/deployments", DeviceDeployments.as_view(), name="device-deployments"),
    path("trust/targets/<name:name>/<sha256:manifest_sha256>.<name:version>.json", Manifest.as_view(), name="manifest"),
    path("blobs/<sha256:sha256>", BlobBytes.as_view(), name="blob"),
]
