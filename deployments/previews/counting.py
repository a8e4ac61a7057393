"""How a preview counts the devices that a deployment would select.

1. A preview visits the same devices with the same statement as planning (`deployments.eligibility`), one batch per
   transaction, and writes only its own row. Until all devices were visited, its numbers grow.
2. The request that starts a preview counts the first batch, so the preview of a small fleet is ready at once. The
   scheduler counts the rest.
3. `Preview.counts` has numbers of devices by reason, stratum, running manifest and silence, and a few ids for each
   reason. Its size does not depend on the fleet: rare strata and manifests are counted together.
"""

import json
import logging
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import DataError, connection, transaction
from django.utils import timezone

from deployments.definition import Definition, check
from deployments.eligibility import Rules, judged_devices
from deployments.models import Preview
from deployments.models.preview import PreviewQuerySet
from deployments.phases.admission import REACHABLE_SECONDS
from deployments.phases.strata import MAX_MIXED_STRATA
from foundation.batches import RUN_SECONDS, run_in_batches
from foundation.errors import BadRequest

logger = logging.getLogger(__name__)
# How many devices one transaction visits.
BATCH = 5000
# How many ids are kept for each reason, and how many manifests are counted separately.
SAMPLES = 5
MAX_MANIFESTS_COUNTED = 50
# The name under which further strata or manifests are counted together. It is no stratum and no digest.
OTHERS = "(others)"
KEPT = timedelta(days=1)
# How long a device has been silent, longest last.
SILENCES = ("reachable", "hour", "day", "week", "longer", "never")

_COUNT = """
, candidates AS (
    SELECT judged.*, CASE
        WHEN judged.last_heartbeat_at IS NULL THEN 'never'
        WHEN judged.last_heartbeat_at >= %(now)s - make_interval(
            secs => greatest(3 * its_group.interval_seconds, %(reachable)s)) THEN 'reachable'
        WHEN judged.last_heartbeat_at >= %(now)s - interval '1 hour' THEN 'hour'
        WHEN judged.last_heartbeat_at >= %(now)s - interval '1 day' THEN 'day'
        WHEN judged.last_heartbeat_at >= %(now)s - interval '7 days' THEN 'week'
        ELSE 'longer'
    END AS silence
    FROM judged JOIN devices_group AS its_group ON its_group.id = judged.group_id
    WHERE reason = ''
)
SELECT (SELECT count(*) FROM visited), (SELECT id FROM visited ORDER BY id DESC LIMIT 1), json_build_object(
    'reasons', (SELECT json_object_agg(reason, devices) FROM (
        SELECT reason, count(*) AS devices FROM judged GROUP BY reason) AS counted),
    'samples', (SELECT json_object_agg(reason, ids) FROM (
        SELECT reason, (array_agg(id ORDER BY id))[1:%(samples)s] AS ids FROM judged GROUP BY reason) AS sampled),
    'strata', (SELECT json_object_agg(stratum, devices) FROM (
        SELECT stratum, count(*) AS devices FROM candidates GROUP BY stratum) AS counted),
    'manifests', (SELECT json_object_agg(running_sha256, devices) FROM (
        SELECT running_sha256, count(*) AS devices FROM candidates GROUP BY running_sha256) AS counted),
    'silences', (SELECT json_object_agg(silence, devices) FROM (
        SELECT silence, count(*) AS devices FROM candidates GROUP BY silence) AS counted)
)::text
"""


@dataclass(slots=True)
class Counts:
    """The numbers of devices that a preview has counted so far. `reasons['']` is how many can take part."""

    visited: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    samples: dict[str, list[str]] = field(default_factory=dict)
    strata: dict[str, int] = field(default_factory=dict)
    manifests: dict[str, int] = field(default_factory=dict)
    silences: dict[str, int] = field(default_factory=dict)

    def add(self, visited: int, batch: dict[str, Any]) -> None:
        """Add the numbers of one batch."""
        self.visited += visited
        self.reasons = _sum(self.reasons, batch["reasons"])
        self.silences = _sum(self.silences, batch["silences"])
        self.strata = _sum(self.strata, batch["strata"], MAX_MIXED_STRATA)
        self.manifests = _sum(self.manifests, batch["manifests"], MAX_MANIFESTS_COUNTED)
        for reason, ids in (batch["samples"] or {}).items():
            self.samples[reason] = [*self.samples.get(reason, []), *ids][:SAMPLES]


def _sum(counts: dict[str, int], batch: dict[str, int] | None, maximum: int | None = None) -> dict[str, int]:
    """Add the counts of a batch. Beyond `maximum` names, new ones are counted as `OTHERS`."""
    total = dict(counts)
    for name, count in (batch or {}).items():
        is_separate = name in total or maximum is None or len(total) < maximum
        counted_as = name if is_separate else OTHERS
        total[counted_as] = total.get(counted_as, 0) + count
    return total


def start_preview(definition: Definition) -> Preview:
    """Record a preview of a deployment, and count its first batch of devices.

    Raises the errors of `deployments.definition.start`.
    """
    selected = check(definition)
    preview = Preview.objects.create(
        bundle=definition.bundle,
        allow_downgrade=definition.allow_downgrade,
        strata=list(definition.strata),
        min_sample=definition.min_sample,
        max_bad=definition.max_bad,
        phases=[asdict(phase) for phase in definition.phases],
        **asdict(selected),
    )
    compute(preview.pk)
    preview.refresh_from_db()
    return preview


def compute_previews() -> int:
    """Continue the previews that are not finished, oldest first. Return how many devices were visited."""
    unfinished = Preview.objects.unfinished().order_by("created_at")
    if not unfinished.exists():
        return 0
    return run_in_batches(lambda: _compute_next(unfinished), size=1, seconds=RUN_SECONDS)


def delete_old_previews() -> int:
    """Delete previews that are older than a day. Return how many."""
    return Preview.objects.filter(created_at__lt=timezone.now() - KEPT).delete()[0]


def compute(preview_id: UUID) -> int:
    """Count the next batch of one preview, unless another process does. Return how many devices were visited."""
    with transaction.atomic():
        return _compute_next(Preview.objects.unfinished().filter(pk=preview_id))


def _compute_next(unfinished: PreviewQuerySet) -> int:
    preview = unfinished.select_for_update(skip_locked=True, of=("self",)).select_related("bundle").first()
    if preview is None:
        return 0
    now = timezone.now()
    rules = Rules(preview.bundle, preview.allow_downgrade, preview.strata, preview.created_at)
    counts = Counts(**preview.counts)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            judged = judged_devices(preview, rules, BATCH)
            values = judged.values | {"now": now, "reachable": REACHABLE_SECONDS, "samples": SAMPLES}
            cursor.execute(f"WITH {judged.text} {_COUNT}", values)
            visited, last, batch = cursor.fetchone()
    except (DataError, BadRequest):
        logger.exception("The query of preview %s cannot be evaluated.", preview.pk)
        preview.save_counts(reason_code="query_failed", finished_at=now)
        return 1
    counts.add(visited, json.loads(batch))
    preview.counts = asdict(counts)
    if last is not None:
        preview.planned_up_to = last
    preview.save_counts(
        planned_up_to=preview.planned_up_to, finished_at=now if visited < BATCH else preview.finished_at
    )
    return max(int(visited), 1)
