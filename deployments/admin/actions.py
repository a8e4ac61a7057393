"""What operators do to deployments in the admin, each with its consequence."""

from deployments.models import DeploymentState, DeviceDeployment
from deployments.phases.control import is_promotable, pause_deployment, promote_deployment
from deployments.repetition import retry_failed, start_again
from deployments.rollback import roll_back
from foundation.adminsite.base import Action

REVERTIBLE_STATES = (
    DeploymentState.RUNNING,
    DeploymentState.PAUSED,
    DeploymentState.CANCELLED,
    DeploymentState.FINISHED,
)
CANCELLABLE_STATES = (
    DeploymentState.PLANNING,
    DeploymentState.SCHEDULED,
    DeploymentState.RUNNING,
    DeploymentState.PAUSED,
)
PAUSE = Action(
    "pause",
    description="Pause",
    button="Pause",
    title="Pause deployments",
    consequence="Nothing more is offered. Devices that have accepted an offer finish.",
    done="Paused",
    act=lambda deployment, actor: pause_deployment(deployment, actor=actor),
    applies_to=lambda deployment: deployment.state == DeploymentState.RUNNING and not deployment.finished_at,
)
PROMOTE = Action(
    "promote",
    description="Promote",
    button="Begin the next phase",
    title="Begin the next phase",
    consequence="The current phase counts as passed, although it waits for results, soaks, or waits at its gate.",
    done="Promoted",
    act=lambda deployment, actor: promote_deployment(deployment, actor=actor),
    applies_to=lambda deployment: is_promotable(deployment),
)
ROLL_BACK = Action(
    "roll_back",
    description="Roll back",
    button="Roll back",
    title="Roll back deployments",
    consequence="Every device that runs the bundle returns to what it ran before. Waiting devices receive nothing, and"
    " active ones are asked to stop. The rollback is a deployment of its own.",
    done="Rollbacks started",
    act=lambda deployment, actor: roll_back(deployment, reason="", actor=actor),
    is_final=True,
    applies_to=lambda deployment: (
        deployment.state in REVERTIBLE_STATES and deployment.reverts_id is None and deployment.rolled_back_at is None
    ),
)
RETRY = Action(
    "retry",
    description="Retry failed devices",
    button="Retry failed devices",
    title="Deploy again to the devices that failed",
    consequence="A new deployment begins, with the same phases, thresholds and limits, to the devices that failed, at"
    " once or late.",
    done="Retries started",
    act=lambda deployment, actor: retry_failed(deployment, actor=actor),
    permission="add",
    applies_to=lambda deployment: (
        deployment.reverts_id is None and DeviceDeployment.objects.filter(deployment=deployment).unsuccessful().exists()
    ),
)
REPEAT = Action(
    "repeat",
    description="Start again",
    button="Start again",
    title="Start deployments again",
    consequence="A new deployment begins with the same definition. Groups and queries are evaluated again, and devices"
    " that run the bundle are skipped.",
    done="Started again",
    act=lambda deployment, actor: start_again(deployment, actor=actor),
    permission="add",
    applies_to=lambda deployment: deployment.reverts_id is None and deployment.finished_at is not None,
)
CANCEL = Action(
    "cancel",
    description="Cancel",
    button="Cancel this deployment",
    title="Cancel deployments",
    consequence="Waiting devices receive nothing. Active devices stop, unless their installation can no longer be"
    " stopped: those finish or roll back automatically.",
    done="Cancelled",
    act=lambda deployment, actor: deployment.cancel(actor),
    is_final=True,
    applies_to=lambda deployment: deployment.state in CANCELLABLE_STATES,
)
