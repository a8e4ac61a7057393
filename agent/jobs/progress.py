"""How far a job is: written down, and said to the server."""

from agent.jobs import reports
from agent.jobs.journal import Job, Journal, State, Step


class Unwanted(Exception):
    """The work is no longer wanted: cancelled, or ended by the server."""


class Stopping(Exception):
    """The work has to wait: the agent stops, or something more urgent came. The job stays in the journal."""


def job_of(state: State, key: str) -> Job:
    """A job to be changed. Raises `Unwanted` if it is gone."""
    job = state.job(key)
    if job is None:
        raise Unwanted
    return job


def note(
    journal: Journal, job: Job, step: Step, said: str = "", progress: tuple[int, int] | None = None,
    seconds: dict[str, float] | None = None,
) -> None:  # fmt: skip
    """Write down that a job is at `step`, with how long parts of it took, and report it if `said`."""
    with journal.change() as state:
        known = job_of(state, job.key)
        known.step = step
        known.timings |= seconds or {}
        if said:
            reports.say(state, known, said, progress)
