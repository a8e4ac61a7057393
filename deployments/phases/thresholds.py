"""The rules that decide when a phase is full, has succeeded, and trips.

These are pure functions of counts. All arithmetic is on integers, so that a limit such as "10 %" means the same number
of devices everywhere: in the scheduler, after a report, in a preview and in the tests.
"""

from dataclasses import dataclass, replace

DEFAULT_SUCCESS_PERCENT = 95
DEFAULT_ERROR_PERCENT = 10
DEFAULT_MIN_SAMPLE = 10


@dataclass(frozen=True, slots=True)
class PhaseCounts:
    """How many admitted devices of a phase have which result.

    `good`: succeeded, and still so. `bad`: failed, rolled back, rejected, timed out after they had accepted, or failed
    late. `lost`: never accepted the offer before the deadline. `neutral`: cancelled, so they say nothing about the
    bundle.
    """

    admitted: int = 0
    good: int = 0
    bad: int = 0
    lost: int = 0
    neutral: int = 0

    @property
    def judged(self) -> int:
        """The devices whose results count, whether they have ended or not."""
        return self.admitted - self.neutral - self.lost

    @property
    def ended(self) -> int:
        return self.good + self.bad

    @property
    def unfinished(self) -> int:
        return self.judged - self.ended

    def forgiving(self, failures: int) -> "PhaseCounts":
        """Return the counts without this many failures, which an operator has accepted."""
        accepted = min(failures, self.bad)
        return replace(self, admitted=self.admitted - accepted, bad=self.bad - accepted)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a phase succeeds, and when it trips.

    At least `success_percent` of its devices must succeed. More than `error_percent` failures trip it, counted as a
    share of the devices that have ended, or of `min_sample` devices while fewer have ended.
    """

    success_percent: int = DEFAULT_SUCCESS_PERCENT
    error_percent: int = DEFAULT_ERROR_PERCENT
    min_sample: int = DEFAULT_MIN_SAMPLE

    def is_exceeded(self, counts: PhaseCounts) -> bool:
        """Too many devices have failed."""
        sample = max(counts.ended, min(self.min_sample, counts.judged))
        return counts.bad >= 1 and 100 * counts.bad > self.error_percent * sample

    def is_success(self, counts: PhaseCounts) -> bool:
        """Enough devices have succeeded, and at least one."""
        return counts.good >= 1 and 100 * counts.good >= self.success_percent * counts.judged

    def is_missed(self, counts: PhaseCounts) -> bool:
        """Too few devices can still succeed."""
        return 100 * (counts.judged - counts.bad) < self.success_percent * counts.judged

    def tolerated(self, devices: int) -> int:
        """Return how many failures a phase of this many devices survives, if all its devices end."""
        survived = 0
        while survived < devices:
            counts = PhaseCounts(devices, good=devices - survived - 1, bad=survived + 1)
            if self.is_exceeded(counts) or self.is_missed(counts):
                break
            survived += 1
        return survived


def devices_of_share(percent: int, total: int) -> int:
    """Return how many of `total` devices a percentage is: rounded up, and at least one."""
    return max(1, -(-percent * total // 100))


def quotas(sizes: dict[str, int], devices: int) -> dict[str, int]:
    """Divide `devices` among strata of these sizes by largest remainder. Ties go to the stratum that sorts first."""
    total = sum(sizes.values())
    if not total:
        return dict.fromkeys(sizes, 0)
    devices = min(devices, total)
    shares = {stratum: divmod(devices * size, total) for stratum, size in sizes.items()}
    remaining = devices - sum(whole for whole, _ in shares.values())
    by_remainder = sorted(sizes, key=lambda stratum: (-shares[stratum][1], stratum))
    favoured = set(by_remainder[:remaining])
    return {stratum: whole + (stratum in favoured) for stratum, (whole, _) in shares.items()}
