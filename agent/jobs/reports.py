"""What is said to the server about a deployment. Pure: everything works on a state of the journal."""

from agent.jobs.journal import Job, JobResult, Release, Report, State
from agent.log import clean

MESSAGE_SIZE = 4096


def tail(text: str, size: int = MESSAGE_SIZE) -> str:
    """The end of a text, in at most `size` bytes of UTF-8 that every JSON reader takes, without secrets."""
    data = clean(text).encode("utf-8", "replace")
    return data[-size:].decode("utf-8", "ignore")


def queue(state: State, job: Job, said: str, progress: tuple[int, int] | None = None) -> None:
    """Queue a report on the state of a job. An unsent one on the same state is replaced: the newest progress counts."""
    if not job.deployment_id or job.is_ended:
        return
    body = _body(job, said)
    if progress is not None:
        body["progress"] = {"bytes_done": progress[0], "bytes_total": progress[1]}
    state.outbox = [one for one in state.outbox if one.key != job.key or one.body["state"] != said]
    job.report = _next(state, job.report)
    body["report"] = job.report
    state.outbox.append(Report(job.deployment_id, body))


def end_job(state: State, job: Job, result: JobResult) -> None:
    """Drop a job and queue its last report, unless the server said that it wants to hear nothing more."""
    if job.deployment_id and not job.is_ended:
        job.report = _next(state, job.report)
        body = _body(job, result.state) | {"report": job.report, "reason_code": result.reason_code}
        state.outbox.append(Report(job.deployment_id, body | {"message": tail(result.message)}))
    state.end(job.key)


def queue_late(state: State, release: Release, message: str) -> None:
    """Say that a release which had succeeded was rolled back after all. The server keeps it as an event."""
    if not release.deployment_id:
        return
    body = {
        "attempt": release.attempt,
        "report": _next(state, release.report),
        "state": "rolled_back",
        "reason_code": "crash_loop",
        "message": tail(message),
    }
    state.outbox.append(Report(release.deployment_id, body))


def _next(state: State, last: int) -> int:
    return max(last, state.report_floor) + 1


def _body(job: Job, said: str) -> dict[str, object]:
    timings = {name: round(seconds, 3) for name, seconds in job.timings.items()}
    return {"attempt": job.attempt, "state": said, "reason_code": "", "message": "", "timings": timings}
