"""Reports wait on disk until the server has heard them, in order, whatever happens to either side meanwhile."""

import logging
from pathlib import Path
from typing import Any

from agent import files
from agent.errors import Answered, BadState
from agent.state import Job
from agent.transport import Server

log = logging.getLogger(__name__)

MESSAGE_SIZE = 4096
# These mean that the server will never take the report: it has ended, is unknown, or is not this device's.
FINAL_ANSWERS = (400, 403, 404, 409, 413, 422)


class Outbox:
    """A directory of reports, one file each, named so that they sort by number."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def add(self, job: Job, state: str, progress: tuple[int, int] | None = None) -> None:
        """Put the job's next word in: its number is `job.report`. The same number again replaces itself."""
        body: dict[str, Any] = {
            "attempt": job.attempt,
            "report": job.report,
            "state": state,
            "reason_code": job.reason_code,
            "message": job.message.encode()[-MESSAGE_SIZE:].decode("utf-8", "ignore"),
            "timings": {name: round(seconds, 3) for name, seconds in job.timings.items()},
        }
        if progress is not None:
            body["progress"] = {"bytes_done": progress[0], "bytes_total": progress[1]}
        path = self.directory / f"{job.deployment_id}.{job.attempt:06}.{job.report:08}.json"
        files.write_json(path, {"deployment_id": job.deployment_id, "body": body})

    def waiting(self) -> list[Path]:
        return sorted(self.directory.glob("*.json"))

    def deliver(self, server: Server) -> None:
        """Send what waits. Raises `Unreachable`; what was heard until then is gone from the box."""
        for path in self.waiting():
            try:
                report = files.read_json(path)
            except BadState:
                log.error("A damaged report is dropped: %s", path.name)
                files.remove(path)
                continue
            try:
                server.call("POST", f"/api/v1/deployments/{report['deployment_id']}/result", report["body"])
            except Answered as answer:
                if answer.status not in FINAL_ANSWERS:
                    raise
                log.warning("A report was not taken: %s", answer)
            files.remove(path)
