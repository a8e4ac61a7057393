"""The preview of a deployment, which the admin shows before an operator confirms its start."""

from typing import Any

from deployments.models import Preview
from deployments.previews.outlook import Outlook, outlook
from deployments.states import SkipReason

SILENCE_LABELS = {
    "hour": "silent for up to an hour",
    "day": "silent for up to a day",
    "week": "silent for up to a week",
    "longer": "silent for longer",
    "never": "never heard from",
}


def preview_context(preview: Preview) -> dict[str, Any]:
    """Return what the template `deployments/preview.html` shows."""
    found = outlook(preview)
    return {
        "preview": preview,
        "outlook": found,
        "skipped": _skipped(found),
        "silences": [(label, found.silences[name]) for name, label in SILENCE_LABELS.items() if found.silences[name]],
        "candidates": found.samples.get("", []),
    }


def _skipped(found: Outlook) -> list[dict[str, Any]]:
    """Return the reasons why devices are skipped, with some devices of each."""
    return [
        {"label": reason.label, "count": found.skipped[reason], "samples": found.samples.get(reason, [])}
        for reason in SkipReason
        if found.skipped[reason]
    ]
