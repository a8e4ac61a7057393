"""The preview of `deploy`: what a deployment would do."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kernex_cli.arguments import Context
from kernex_cli.errors import Exit, WaitFailed
from kernex_cli.formatting import counted, duration_text, size_text
from kernex_cli.resources import Resource
from kernex_cli.tables import Column

POLL_SECONDS = 1.0
PHASE_COLUMNS = (
    Column("PHASE"),
    Column("DEVICES"),
    Column("TOTAL"),
    Column("TRIPS AT"),
    Column("SOAK"),
    Column("STRATA", rank=1),
)
SKIPPED_COLUMNS = (Column("SKIPPED"), Column("DEVICES"), Column("SUCH AS"))
TRANSFER_COLUMNS = (Column("RUNNING"), Column("DEVICES"), Column("DOWNLOAD"))
SILENCES = {
    "hour": "for up to an hour",
    "day": "for up to a day",
    "week": "for up to a week",
    "longer": "for longer",
    "never": "never heard from",
}


@dataclass(frozen=True)
class Outlook(Resource):
    """What the server says about a deployment that was not started."""

    visited: int = 0
    device_count: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    samples: Mapping[str, list[Mapping[str, str]]] = field(default_factory=dict)
    phases: tuple[Mapping[str, Any], ...] = ()
    silences: Mapping[str, int] = field(default_factory=dict)
    transfers: tuple[Mapping[str, Any], ...] = ()
    total_bytes: int = 0
    expected_seconds: int = 0

    @property
    def skipped_rows(self) -> list[tuple[Any, ...]]:
        return [
            (reason.replace("_", " "), count, self._sample_names(reason))
            for reason, count in self.skipped.items()
            if count
        ]

    def _sample_names(self, reason: str) -> str:
        return ", ".join(each["name"] or each["id"] for each in self.samples.get(reason, []))

    @property
    def phase_rows(self) -> list[tuple[Any, ...]]:
        return [
            (
                phase["number"],
                phase["devices"],
                phase["device_count"],
                counted(phase["tolerated"] + 1, "failure") if phase["devices"] else "",
                duration_text(phase["soak_seconds"]) if phase["soak_seconds"] else "",
                phase["strata"],
            )
            for phase in self.phases
        ]

    @property
    def transfer_rows(self) -> list[tuple[Any, ...]]:
        return [
            (each["running"] or "none or unknown", each["devices"], size_text(each["bytes"])) for each in self.transfers
        ]


def show_preview(context: Context, body: Mapping[str, Any]) -> int:
    """Show what a deployment would do. Raises `WaitFailed` if the server cannot compute it, or after --timeout."""
    document = _computed(context, body)
    if document["state"] == "failed":
        raise WaitFailed("The server cannot compute the preview: the query cannot be evaluated.")
    screen, outlook = context.screen, Outlook.parse(document["outlook"])
    if screen.as_json:
        screen.result(document)
        return Exit.OK
    devices = counted(outlook.device_count, "device")
    screen.result(None, f"{document['bundle']} would be deployed to {devices}. Nothing has been deployed.")
    if outlook.skipped_rows:
        screen.heading("Skipped")
        screen.table(SKIPPED_COLUMNS, outlook.skipped_rows)
    if outlook.device_count:
        screen.heading("Phases")
        screen.table(PHASE_COLUMNS, outlook.phase_rows)
        screen.heading(f"Download: {size_text(outlook.total_bytes)} in total")
        screen.table(TRANSFER_COLUMNS, outlook.transfer_rows)
    silent = [f"{count} {SILENCES[name]}" for name, count in outlook.silences.items() if count and name in SILENCES]
    if silent:
        screen.note(f"Not reachable now: {', '.join(silent)}.", "yellow")
    if outlook.expected_seconds:
        screen.note(f"Expected to take {duration_text(outlook.expected_seconds)}, based on the last deployments.")
    return Exit.OK


def _computed(context: Context, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preview when the server has visited all devices."""
    timeout, started_at = context.arguments.timeout, time.monotonic()
    document: dict[str, Any] = context.client.post("/deployments/preview", body, idempotent=False)
    with context.screen.bar("Previewing") as bar:
        while document["state"] == "computing":
            bar.show(done=document["outlook"]["visited"], total=None, detail="devices visited")
            if timeout is not None and time.monotonic() - started_at > timeout:
                raise WaitFailed(f"The preview is not ready after {timeout} s.")
            time.sleep(POLL_SECONDS)
            document = context.client.get(f"/deployments/previews/{document['id']}")
    return document
