"""The progress of a job, in the journal and in reports to the server."""

from agent.jobs import reports
from agent.jobs.journal import Journal
from agent.jobs.state import Job, Stage, State


class JobDropped(Exception):
    """The job is no longer wanted: it was cancelled, or the server ended it."""


class JobPostponed(Exception):
    """The job has to wait, because the agent is stopping or a more urgent job arrived. It remains in the journal."""


def require_job(state: State, key: str) -> Job:
    """Return a job that can be changed. Raises `JobDropped` if the journal no longer contains it."""
    job = state.job(key)
    if job is None:
        raise JobDropped
    return job


def enter_stage(journal: Journal, job: Job, stage: Stage, report_state: str = "") -> None:
    """Record that a job reached a stage. If `report_state` is given, queue a report. Raises `JobDropped`."""
    with journal.change() as state:
        recorded = require_job(state, job.key)
        recorded.stage = stage
        if report_state:
            reports.queue(state, recorded, report_state)


def report_download(journal: Journal, job: Job, bytes_done: int, bytes_total: int) -> None:
    """Queue a report of the number of downloaded bytes. Raises `JobDropped`."""
    with journal.change() as state:
        reports.queue(state, require_job(state, job.key), "downloading", (bytes_done, bytes_total))


def record_timing(journal: Journal, job: Job, part: str, seconds: float) -> None:
    """Record the duration of a part of a job for later reports. Raises `JobDropped`."""
    with journal.change() as state:
        require_job(state, job.key).timings[part] = seconds
