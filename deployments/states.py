"""The states of deployments, phases and device deployments, and which may follow which.

deployment:

                        ┌── trip, gate, operator ──► paused ──┐
                        │                              │      │ resume, promote
    planning ──────► running ◄─────────────────────────┼──────┘
       │  │             │  └──────► finished ◄─────────┤
       │  └─────────────┼──────────────▲               │         (planning: no device can take part)
       └────────────────┴──► cancelled ◄───────────────┘

    planning ──► scheduled ──► running, cancelled, finished      (until `start_at`)

    running, paused, cancelled, finished ──► rolling_back ──► finished

phase:

    pending ──► filling ──► settling ──► soaking ──► gate ──► passed
       │           │           │            │          │
       │           └───────────┴─────┬──────┴──────────┘
       │                             ▼
       └──► skipped ◄──────────── tripped ──► filling            (an operator resumes the deployment)

    A phase goes on to the next state as soon as the conditions of the present one are met, so it may leave states out.

device deployment:

    skipped                                  (the device cannot take part; a row is created in this state and stays)

       ┌── withdrawn: hold, pause, eviction
       ▼           │
    waiting ──► offered ──► accepted ──► downloading ──► installing ──► checking ──► succeeded | failed |
       │           │            │             │              │             │         rolled_back | rejected
       │           └────────────┴──────┬──────┴──────────────┴─────────────┘
       │                               ├── fails for a temporary reason ──► waiting
       │                               ├── operator cancels ──► cancelling ──► cancelled, or the final report
       │                               └── deadline ──► timed_out  (cancelling: cancelled)
       └── operator cancels, or superseded ──► cancelled

A success is provisional until its observation time ends: it may fail late, and then counts as failed
(`deployments.observation`). The state stays `succeeded`.

Decommissioning a device ends all its device deployments as `cancelled`. A device that is asked to cancel and falls
silent does not delay the end of the deployment: its device deployment ends as `cancelled` as well. A hold or a pause
withdraws an offer that the device has not acknowledged, and an eviction one that it has not accepted: the device
deployment waits again, as a new attempt. If a device fails for a temporary reason, its device deployment waits for the
next attempt, if any remain (`deployments.retries`).
"""

from django.db.models import TextChoices

from foundation.state_machine import Transitions


class DeploymentState(TextChoices):
    PLANNING = "planning", "planning"
    SCHEDULED = "scheduled", "scheduled"
    RUNNING = "running", "running"
    PAUSED = "paused", "paused"
    ROLLING_BACK = "rolling_back", "rolling back"
    CANCELLED = "cancelled", "cancelled"
    FINISHED = "finished", "finished"


class PauseReason(TextChoices):
    """Why a deployment is paused."""

    OPERATOR = "operator", "by an operator"
    MANUAL_GATE = "manual_gate", "waits for an operator's decision"
    SUCCESS_MISSED = "success_missed", "too few devices can succeed"
    ERROR_THRESHOLD = "error_threshold", "too many devices failed"
    NOT_ENOUGH_DEVICES = "not_enough_devices", "too few devices are reachable"


class FailureAction(TextChoices):
    """What happens when a phase trips."""

    PAUSE = "pause", "pause the deployment"
    CANCEL = "cancel", "cancel the deployment"
    ROLL_BACK = "roll_back", "roll it back"


class SkipReason(TextChoices):
    """Why a selected device cannot take part. The first that applies is recorded."""

    EXCLUDED = "excluded", "excluded"
    DECOMMISSIONED = "decommissioned", "decommissioned"
    NOT_ACCEPTED = "not_accepted", "not accepted"
    WRONG_DEVICE_TYPE = "wrong_device_type", "of a device type that the bundle is not for"
    ALREADY_RUNNING = "already_running", "already running it"
    NEWER_RUNNING = "newer_running", "running a newer release"
    NO_MEMORY = "no_memory", "without enough memory"
    NO_SPACE = "no_space", "without enough disk space"
    NOT_RUNNING = "not_running", "no longer running it"
    NOTHING_TO_RETURN_TO = "nothing_to_return_to", "without an earlier release to return to"


class DeploymentOutcome(TextChoices):
    """How a deployment ended. It may change from `succeeded` to `incomplete` while devices are observed."""

    SUCCEEDED = "succeeded", "succeeded"
    INCOMPLETE = "incomplete", "incomplete"
    CANCELLED = "cancelled", "cancelled"
    ROLLED_BACK = "rolled_back", "rolled back"
    SUPERSEDED = "superseded", "superseded"
    EXPIRED = "expired", "expired"


DEPLOYMENT_TRANSITIONS = Transitions(
    {
        DeploymentState.PLANNING: {
            DeploymentState.SCHEDULED, DeploymentState.RUNNING, DeploymentState.CANCELLED, DeploymentState.FINISHED,
        },
        DeploymentState.SCHEDULED: {DeploymentState.RUNNING, DeploymentState.CANCELLED, DeploymentState.FINISHED},
        DeploymentState.RUNNING: {
            DeploymentState.PAUSED, DeploymentState.CANCELLED, DeploymentState.ROLLING_BACK, DeploymentState.FINISHED,
        },
        DeploymentState.PAUSED: {
            DeploymentState.RUNNING, DeploymentState.CANCELLED, DeploymentState.ROLLING_BACK, DeploymentState.FINISHED,
        },
        DeploymentState.CANCELLED: {DeploymentState.ROLLING_BACK},
        DeploymentState.FINISHED: {DeploymentState.ROLLING_BACK},
        DeploymentState.ROLLING_BACK: {DeploymentState.FINISHED},
    }
)  # fmt: skip


class PhaseState(TextChoices):
    PENDING = "pending", "pending"
    FILLING = "filling", "filling"
    SETTLING = "settling", "settling"
    SOAKING = "soaking", "soaking"
    GATE = "gate", "waiting at its gate"
    PASSED = "passed", "passed"
    TRIPPED = "tripped", "tripped"
    SKIPPED = "skipped", "skipped"


# A deployment has at most one phase in these states. The phases before it have ended, those after it are pending.
OPEN_PHASE_STATES = (PhaseState.FILLING, PhaseState.SETTLING, PhaseState.SOAKING, PhaseState.GATE)
# What a phase was called in the release before phases. A process of that release may still write it during an upgrade.
FORMER_PHASE_STATES = {"waiting": PhaseState.PENDING, "open": PhaseState.FILLING, "finished": PhaseState.PASSED}

PHASE_TRANSITIONS = Transitions(
    {
        PhaseState.PENDING: {PhaseState.FILLING, PhaseState.SKIPPED},
        PhaseState.FILLING: {
            PhaseState.SETTLING, PhaseState.SOAKING, PhaseState.GATE, PhaseState.PASSED, PhaseState.TRIPPED,
            PhaseState.SKIPPED,
        },
        PhaseState.SETTLING: {
            PhaseState.SOAKING, PhaseState.GATE, PhaseState.PASSED, PhaseState.TRIPPED, PhaseState.SKIPPED,
        },
        PhaseState.SOAKING: {PhaseState.GATE, PhaseState.PASSED, PhaseState.TRIPPED, PhaseState.SKIPPED},
        PhaseState.GATE: {PhaseState.PASSED, PhaseState.TRIPPED, PhaseState.SKIPPED},
        PhaseState.TRIPPED: {PhaseState.FILLING, PhaseState.SKIPPED},
        PhaseState.PASSED: {},
        PhaseState.SKIPPED: {},
        **{former: {state} for former, state in FORMER_PHASE_STATES.items()},
    }
)  # fmt: skip


class DeviceDeploymentState(TextChoices):
    SKIPPED = "skipped", "skipped"
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
    DeviceDeploymentState.SKIPPED,
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

# The reason of a cancelled device deployment whose device was asked to stop and did not answer. It may run the bundle.
CANCEL_UNANSWERED = "cancel_unanswered"

# The result of a device deployment that succeeded and failed within its observation time. It is not a state.
FAILED_LATE = "failed_late"
# What a device deployment amounts to: its state, or `failed_late`.
RESULTS = (*(state.value for state in DeviceDeploymentState), FAILED_LATE)
# The results of devices that take part. Skipped devices are in no total.
COUNTED_RESULTS = tuple(result for result in RESULTS if result != DeviceDeploymentState.SKIPPED)

# Where the part of an active device may go besides the next stage: to the next attempt, to a cancel, or to its end.
_BREAKS = (
    DeviceDeploymentState.WAITING,
    DeviceDeploymentState.CANCELLING,
    *FINAL_REPORTS,
    DeviceDeploymentState.TIMED_OUT,
)

DEVICE_DEPLOYMENT_TRANSITIONS = Transitions(
    {
        DeviceDeploymentState.WAITING: {DeviceDeploymentState.OFFERED, DeviceDeploymentState.CANCELLED},
        DeviceDeploymentState.OFFERED: {*STAGES[1:], *_BREAKS},
        DeviceDeploymentState.ACCEPTED: {*STAGES[2:], *_BREAKS},
        DeviceDeploymentState.DOWNLOADING: {*STAGES[3:], *_BREAKS},
        DeviceDeploymentState.INSTALLING: {*STAGES[4:], *_BREAKS},
        DeviceDeploymentState.CHECKING: {*_BREAKS},
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
