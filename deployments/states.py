"""The states of deployments, phases and device deployments, and which may follow which.

deployment:

    planning ──► running ──────► finished
       │  │         │               ▲
       │  └─────────┼───────────────┘  (no device can take part)
       └────────────┴──► cancelled

phase:

    waiting ──► open ──► finished
       └────────────────────▲          (the deployment ended while it was planned)

device deployment:

       ┌── hold ───┐
       ▼           │
    waiting ──► offered ──► accepted ──► downloading ──► installing ──► checking ──► succeeded | failed |
       │           │            │             │              │             │         rolled_back | rejected
       │           └────────────┴──────┬──────┴──────────────┴─────────────┘
       │                               ├── operator cancels ──► cancelling ──► cancelled, or the final report
       └── operator cancels ─► cancelled └── deadline ──► timed_out  (cancelling: cancelled)

A success is provisional until its observation time ends: it may fail late, and then counts as failed
(`deployments.observation`). The state stays `succeeded`.

Decommissioning a device ends all its device deployments as `cancelled`. A hold withdraws an offer that the device has
not acknowledged: the device deployment waits again, as a new attempt.
"""

from django.db.models import TextChoices

from foundation.state_machine import Transitions


class DeploymentState(TextChoices):
    PLANNING = "planning", "planning"
    RUNNING = "running", "running"
    CANCELLED = "cancelled", "cancelled"
    FINISHED = "finished", "finished"


class DeploymentOutcome(TextChoices):
    """How a deployment ended. It may change from `succeeded` to `incomplete` while devices are observed."""

    SUCCEEDED = "succeeded", "succeeded"
    INCOMPLETE = "incomplete", "incomplete"
    CANCELLED = "cancelled", "cancelled"


DEPLOYMENT_TRANSITIONS = Transitions(
    {
        DeploymentState.PLANNING: {DeploymentState.RUNNING, DeploymentState.CANCELLED, DeploymentState.FINISHED},
        DeploymentState.RUNNING: {DeploymentState.CANCELLED, DeploymentState.FINISHED},
        DeploymentState.CANCELLED: {},
        DeploymentState.FINISHED: {},
    }
)


class PhaseState(TextChoices):
    WAITING = "waiting", "waiting"
    OPEN = "open", "open"
    FINISHED = "finished", "finished"


PHASE_TRANSITIONS = Transitions(
    {
        PhaseState.WAITING: {PhaseState.OPEN, PhaseState.FINISHED},
        PhaseState.OPEN: {PhaseState.FINISHED},
        PhaseState.FINISHED: {},
    }
)


class DeviceDeploymentState(TextChoices):
    WAITING = "waiting", "waiting"
    OFFERED = "offered", "offered"
    ACCEPTED = "accepted", "accepted"
    DOWNLOADING = "downloading", "downloading"
    INSTALLING = "installing", "installing"
    CHECKING = "checking", "checking"
    CANCELLING = "cancelling", "cancelling"
    SUCCEEDED = "succeeded", "succeeded"
    FAILED = "failed", "failed"
    ROLLED_BACK = "rolled_back", "rolled back"
    REJECTED = "rejected", "rejected"
    TIMED_OUT = "timed_out", "timed out"
    CANCELLED = "cancelled", "cancelled"


# A device goes through these in order; it may skip some, and never goes back.
STAGES = (
    DeviceDeploymentState.OFFERED,
    DeviceDeploymentState.ACCEPTED,
    DeviceDeploymentState.DOWNLOADING,
    DeviceDeploymentState.INSTALLING,
    DeviceDeploymentState.CHECKING,
)
# The device has, or may have, the command. The database allows one such row per device and product.
ACTIVE_STATES = (*STAGES, DeviceDeploymentState.CANCELLING)
UNFINISHED_STATES = (DeviceDeploymentState.WAITING, *ACTIVE_STATES)
# The states in which a device may report the end, whatever stage it is in.
FINAL_REPORTS = (
    DeviceDeploymentState.SUCCEEDED,
    DeviceDeploymentState.FAILED,
    DeviceDeploymentState.ROLLED_BACK,
    DeviceDeploymentState.REJECTED,
    DeviceDeploymentState.CANCELLED,
)
# All states that a device may report.
REPORTABLE_STATES = (*STAGES[1:], *FINAL_REPORTS)
REPORTED_CHOICES = [(state.value, state.label) for state in REPORTABLE_STATES]
FINAL_STATES = (
    DeviceDeploymentState.SUCCEEDED,
    DeviceDeploymentState.FAILED,
    DeviceDeploymentState.ROLLED_BACK,
    DeviceDeploymentState.REJECTED,
    DeviceDeploymentState.TIMED_OUT,
    DeviceDeploymentState.CANCELLED,
)
# Ended without the bundle, and no operator wanted that.
UNSUCCESSFUL_STATES = (
    DeviceDeploymentState.FAILED,
    DeviceDeploymentState.ROLLED_BACK,
    DeviceDeploymentState.REJECTED,
    DeviceDeploymentState.TIMED_OUT,
)

# The result of a device deployment that succeeded and failed within its observation time. It is not a state.
FAILED_LATE = "failed_late"
# What a device deployment amounts to: its state, or `failed_late`.
RESULTS = (*(state.value for state in DeviceDeploymentState), FAILED_LATE)

DEVICE_DEPLOYMENT_TRANSITIONS = Transitions(
    {
        DeviceDeploymentState.WAITING: {DeviceDeploymentState.OFFERED, DeviceDeploymentState.CANCELLED},
        DeviceDeploymentState.OFFERED: {
            DeviceDeploymentState.WAITING,
            *STAGES[1:],
            DeviceDeploymentState.CANCELLING,
            *FINAL_STATES,
        },
        DeviceDeploymentState.ACCEPTED: {*STAGES[2:], DeviceDeploymentState.CANCELLING, *FINAL_STATES},
        DeviceDeploymentState.DOWNLOADING: {*STAGES[3:], DeviceDeploymentState.CANCELLING, *FINAL_STATES},
        DeviceDeploymentState.INSTALLING: {*STAGES[4:], DeviceDeploymentState.CANCELLING, *FINAL_STATES},
        DeviceDeploymentState.CHECKING: {DeviceDeploymentState.CANCELLING, *FINAL_STATES},
        DeviceDeploymentState.CANCELLING: set(FINAL_REPORTS),
        **{state: set() for state in FINAL_STATES},
    }
)


def state_after_report(current: str, reported: str) -> str:
    """Return the state after a device in `current` reported `reported`: a later one, or `current`.

    A final report counts in every state that is not final. A stage does not undo a cancel.
    """
    if reported in FINAL_REPORTS or current != DeviceDeploymentState.CANCELLING:
        return reported if DEVICE_DEPLOYMENT_TRANSITIONS.allows(current, reported) else current
    return current


def stages_passed(current: str, target: str) -> tuple[str, ...]:
    """Return the stages after `current` up to `target`, including skipped ones. Empty unless both are stages."""
    if current not in STAGES or target not in STAGES:
        return ()
    position = [str(stage) for stage in STAGES]
    return tuple(position[position.index(current) + 1 : position.index(target) + 1])
