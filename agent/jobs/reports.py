"""Reports to the server about a device deployment. The functions only change the journal's state."""

from dataclasses import replace

from agent.jobs.state import Job, JobResult, Release, Report, State
from agent.log import sanitize

MESSAGE_SIZE = 4096


def tail(text: str, size: int = MESSAGE_SIZE) -> str:
    """Return the end of a text without secrets, at most `size` bytes of UTF-8."""
    data = sanitize(text).encode("utf-8", "replace")
    return data[-size:].decode("utf-8", "ignore")


def queue(state: State, job: Job, report_state: str, progress: tuple[int, int] | None = None) -> None:
    """Queue a report that a job has reached a state. It replaces an unsent report of the same state.

    `progress` is the number of downloaded bytes and the total number of bytes.
    """
    if not job.deployment_id or job.is_ended:
        return
    state.outbox = [report for report in state.outbox if (report.key, report.state) != (job.key, report_state)]
    report = _report(state, job, report_state)
    if progress is not None:
        report = replace(report, bytes_done=progress[0], bytes_total=progress[1])
    state.outbox.append(report)


def end_job(state: State, job: Job, result: JobResult) -> None:
    """Remove a job and queue its last report, unless the server accepts no more reports about it."""
    if job.deployment_id and not job.is_ended:
        report = _report(state, job, result.state)
        state.outbox.append(replace(report, reason_code=result.reason_code, message=tail(result.message)))
    state.end(job.key)


def queue_late(state: State, release: Release, report_state: str, message: str) -> None:
    """Queue a report about a release that crash-looped after it had succeeded. The server records it as an event."""
    if release.deployment_id:
        release.report = _next_number(state, release.report)
        state.outbox.append(
            Report(release.deployment_id, release.attempt, release.report, report_state, "crash_loop", tail(message))
        )


def _report(state: State, job: Job, report_state: str) -> Report:
    """Return the next report of a job, and increase its report number."""
    job.report = _next_number(state, job.report)
    timings = {part: round(seconds, 3) for part, seconds in job.timings.items()}
    return Report(job.deployment_id, job.attempt, job.report, report_state, timings=timings)


def _next_number(state: State, last: int) -> int:
    return max(last, state.report_floor) + 1
