"""The scheduler's tasks for deployments."""

from deployments.drift import compare
from deployments.observation import observe
from deployments.offers import offer
from deployments.phases.advance import advance, withdraw_offers_of_paused
from deployments.planning import plan
from deployments.precedence import supersede
from deployments.previews.counting import compute_previews, delete_old_previews
from deployments.schedule import expire, start_scheduled
from deployments.stalls import notice_stalls
from deployments.termination import (
    carry_out_cancels,
    end_decommissioned,
    end_superseded_rollbacks,
    end_withdrawn,
    enforce_deadlines,
    finish,
)
from foundation.scheduler import Task

TASKS = [
    Task("plan", plan, every_seconds=1),
    Task("compute previews", compute_previews, every_seconds=1),
    Task("delete old previews", delete_old_previews, every_seconds=3600),
    Task("start scheduled deployments", start_scheduled, every_seconds=1),
    Task("expire deployments", expire, every_seconds=1),
    Task("advance", advance, every_seconds=1),
    Task("supersede", supersede, every_seconds=5),
    Task("offer", offer, every_seconds=1),
    Task("withdraw offers of paused deployments", withdraw_offers_of_paused, every_seconds=1),
    Task("carry out cancels", carry_out_cancels, every_seconds=1),
    Task("enforce deadlines", enforce_deadlines, every_seconds=1),
    Task("end decommissioned devices", end_decommissioned, every_seconds=5),
    Task("end withdrawn bundles", end_withdrawn, every_seconds=5),
    Task("end superseded rollbacks", end_superseded_rollbacks, every_seconds=5),
    Task("finish", finish, every_seconds=1),
    Task("observe successes", observe, every_seconds=2),
    Task("notice stalls", notice_stalls, every_seconds=60),
    Task("compare devices", compare, every_seconds=5),
]
