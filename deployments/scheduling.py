"""The time-driven steps of this room."""

from deployments.drift import compare
from deployments.rollout import offer
from deployments.termination import (
    carry_out_cancels,
    end_decommissioned,
    end_withdrawn,
    enforce_deadlines,
    finish,
)
from foundation.scheduler import Step

STEPS = [
    Step("offer", offer, every_seconds=1),
    Step("carry out cancels", carry_out_cancels, every_seconds=1),
    Step("enforce deadlines", enforce_deadlines, every_seconds=1),
    Step("end decommissioned devices", end_decommissioned, every_seconds=5),
    Step("end withdrawn bundles", end_withdrawn, every_seconds=5),
    Step("finish", finish, every_seconds=1),
    Step("compare devices", compare, every_seconds=5),
]
