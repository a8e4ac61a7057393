"""The models of deployments. Their states and transitions are in `deployments.states`."""

from deployments.models.comparison import Comparison
from deployments.models.deployment import Deployment, DeploymentQuerySet, SkippedCounts
from deployments.models.device_deployment import DeviceDeployment
from deployments.models.device_deployment_queryset import DeviceDeploymentQuerySet
from deployments.models.hold import Hold
from deployments.models.phase import Phase
from deployments.models.preview import Preview
from deployments.models.selection import SelectedDevices, Selection
from deployments.states import (
    ACTIVE_STATES,
    FINAL_STATES,
    UNFINISHED_STATES,
    UNSUCCESSFUL_STATES,
    DeploymentState,
    DeviceDeploymentState,
    PhaseState,
)

__all__ = [
    "ACTIVE_STATES",
    "FINAL_STATES",
    "UNFINISHED_STATES",
    "UNSUCCESSFUL_STATES",
    "Comparison",
    "Deployment",
    "DeploymentQuerySet",
    "DeploymentState",
    "DeviceDeployment",
    "DeviceDeploymentQuerySet",
    "DeviceDeploymentState",
    "Hold",
    "Phase",
    "PhaseState",
    "Preview",
    "SelectedDevices",
    "Selection",
    "SkippedCounts",
]
