"""What a preview says: which devices take part, what each phase would hold, and what would be transferred."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from bundles.models import Bundle, BundleFile
from deployments.models import Deployment, DeviceDeployment, DeviceDeploymentState, Phase, Preview, SkippedCounts
from deployments.models.phase import device_counts
from deployments.phases.definition import PhaseDefinition
from deployments.phases.thresholds import Thresholds, quotas
from deployments.previews.counting import OTHERS, SILENCES, Counts
from devices.models import Device

# The successes of the product from which the duration is estimated, and the deployments that they are taken from.
PAST_SUCCESSES = 500
PAST_DEPLOYMENTS = 10


@dataclass(frozen=True, slots=True)
class PhasePreview:
    """One phase. `device_count` is cumulative, `devices` is its own share, and `strata` says of which strata.

    `tolerated` is how many of its devices may fail before it trips, if no device of an earlier phase failed.
    """

    number: int
    device_count: int
    devices: int
    strata: dict[str, int]
    tolerated: int
    soak_seconds: int
    manual_gate: bool


@dataclass(frozen=True, slots=True)
class Transfer:
    """What devices that run the same release have to download. `running` is its version; empty: none, or unknown."""

    running: str
    devices: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a preview says. The numbers grow until the preview is finished.

    `samples` are some devices for each reason; those under an empty reason take part. `silences` says how many of the
    devices that take part were heard of lately, and for how long the others have been silent. `expected_seconds` is
    None if the product was never deployed before.
    """

    visited: int
    device_count: int
    skipped: SkippedCounts
    samples: dict[str, list[Device]]
    phases: list[PhasePreview]
    strata: dict[str, int]
    silences: dict[str, int]
    transfers: list[Transfer]
    expected_seconds: int | None

    @property
    def total_bytes(self) -> int:
        return sum(transfer.devices * transfer.bytes for transfer in self.transfers)

    @property
    def unreachable(self) -> int:
        return self.device_count - self.silences.get("reachable", 0)


def outlook(preview: Preview) -> Outlook:
    """Return what a preview says about the devices that it has visited so far."""
    counts = Counts(**preview.counts)
    skipped = SkippedCounts(counts.reasons)
    device_count = skipped.pop("", 0)
    definitions = [PhaseDefinition(**phase) for phase in preview.phases]
    # As in planning, too many strata are not mixed.
    strata = counts.strata if preview.strata and OTHERS not in counts.strata else {}
    return Outlook(
        visited=counts.visited,
        device_count=device_count,
        skipped=skipped,
        samples=_samples(counts.samples),
        phases=_phases(preview, definitions, device_count, strata),
        strata=strata,
        silences={silence: counts.silences.get(silence, 0) for silence in SILENCES},
        transfers=_transfers(preview.bundle, counts.manifests),
        expected_seconds=_expected_seconds(preview.bundle.name, definitions),
    )


def _samples(samples: dict[str, list[str]]) -> dict[str, list[Device]]:
    devices = Device.objects.only("id", "name").in_bulk({device_id for ids in samples.values() for device_id in ids})
    by_id = {str(device_id): device for device_id, device in devices.items()}
    return {
        reason: [by_id[device_id] for device_id in ids if device_id in by_id] for reason, ids in sorted(samples.items())
    }


def _phases(
    preview: Preview, definitions: list[PhaseDefinition], total: int, strata: dict[str, int]
) -> list[PhasePreview]:
    phases = [Phase(number=number, **asdict(each)) for number, each in enumerate(definitions, start=1)]
    previews, before, quotas_before = [], 0, Counter[str]()
    for phase, device_count in zip(phases, device_counts(phases, total), strict=True):
        wanted = Counter(quotas(strata, device_count))
        devices = device_count - before
        tolerated_by_all = devices if preview.max_bad is None else preview.max_bad
        thresholds = Thresholds(phase.success_threshold_percent, phase.error_threshold_percent, preview.min_sample)
        previews.append(
            PhasePreview(
                number=phase.number,
                device_count=device_count,
                devices=devices,
                strata=dict(wanted - quotas_before),
                tolerated=min(thresholds.tolerated(devices), tolerated_by_all),
                soak_seconds=phase.soak_seconds,
                manual_gate=phase.manual_gate,
            )
        )
        before, quotas_before = device_count, wanted
    return previews


def _transfers(bundle: Bundle, manifests: dict[str, int]) -> list[Transfer]:
    """Return what devices have to download, by the release that they run. Files that they have are not counted."""
    running = {
        each.manifest_sha256: each
        for each in Bundle.objects.filter(name=bundle.name, manifest_sha256__in=manifests).only(
            "version", "manifest_sha256"
        )
    }
    transfers = []
    for sha256, devices in sorted(manifests.items(), key=lambda item: -item[1]):
        release = running.get(sha256)
        transfers.append(Transfer(release.version if release else "", devices, _missing_bytes(bundle, release)))
    return transfers


def _missing_bytes(bundle: Bundle, running: Bundle | None) -> int:
    """Return the size of the blobs of a bundle that are not in the release that a device runs."""
    files = BundleFile.objects.filter(bundle=bundle)
    if running is not None:
        files = files.exclude(sha256__in=BundleFile.objects.filter(bundle=running).values("sha256"))
    return sum(dict(files.order_by().values_list("sha256", "size")).values())


def _expected_seconds(product: str, phases: Iterable[PhaseDefinition]) -> int | None:
    """Return how long the deployment takes if its devices are as fast as the last ones, and all succeed."""
    last = (
        DeviceDeployment.objects.in_states(DeviceDeploymentState.SUCCEEDED)
        .filter(
            deployment__in=Deployment.objects.filter(bundle__name=product).order_by("-created_at")[:PAST_DEPLOYMENTS]
        )
        .filter(offered_at__isnull=False, finished_at__isnull=False)
        .order_by()
        .values_list("offered_at", "finished_at")[:PAST_SUCCESSES]
    )
    seconds = sorted((ended - offered).total_seconds() for offered, ended in last if offered and ended)
    if not seconds:
        return None
    median = seconds[len(seconds) // 2]
    return sum(round(median) + phase.soak_seconds for phase in phases)
