"""The rules of thresholds, with numbers worked out by hand, and properties that hold for all counts."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.phases.thresholds import PhaseCounts, Thresholds, devices_of_share, quotas


@pytest.mark.parametrize(
    ("percent", "total", "devices"),
    [(1, 5, 1), (10, 5, 1), (20, 5, 1), (21, 5, 2), (50, 5, 3), (100, 5, 5), (1, 100_000, 1000), (33, 100, 33)],
)
def test_a_percentage_is_rounded_up_to_whole_devices(percent: int, total: int, devices: int) -> None:
    assert devices_of_share(percent, total) == devices


@pytest.mark.parametrize(
    ("admitted", "good", "bad", "exceeded"),
    [
        (5, 0, 1, True),  # one failure of five
        (5, 4, 1, True),
        (100, 0, 1, False),  # one of the first ten
        (100, 0, 2, True),
        (100, 18, 2, False),  # exactly 10 %
        (100, 17, 2, True),
        (100, 90, 10, False),
        (100, 89, 11, True),
        (100, 50, 0, False),
    ],
)
def test_the_error_threshold_of_ten_percent(admitted: int, good: int, bad: int, exceeded: bool) -> None:
    assert Thresholds().is_exceeded(PhaseCounts(admitted, good, bad)) is exceeded


@pytest.mark.parametrize(
    ("admitted", "good", "bad", "success", "missed"),
    [
        (100, 94, 0, False, False),
        (100, 95, 0, True, False),
        (100, 95, 5, True, False),
        (100, 0, 5, False, False),
        (100, 0, 6, False, True),  # at most 94 can succeed
        (5, 4, 0, False, False),  # 95 % of five is all five
        (5, 4, 1, False, True),
        (0, 0, 0, False, False),  # an empty phase has not succeeded
    ],
)
def test_the_success_threshold_of_95_percent(admitted: int, good: int, bad: int, success: bool, missed: bool) -> None:
    counts = PhaseCounts(admitted, good, bad)
    assert (Thresholds().is_success(counts), Thresholds().is_missed(counts)) == (success, missed)


def test_lost_and_neutral_devices_do_not_count() -> None:
    counts = PhaseCounts(admitted=12, good=10, bad=0, lost=1, neutral=1)
    assert (counts.judged, counts.ended, counts.unfinished) == (10, 10, 0)
    assert Thresholds(success_percent=100).is_success(counts)


def test_accepted_failures_do_not_count() -> None:
    counts = PhaseCounts(admitted=10, good=7, bad=3)
    assert Thresholds().is_exceeded(counts)
    assert counts.forgiving(3) == PhaseCounts(admitted=7, good=7, bad=0)
    assert Thresholds().is_success(counts.forgiving(3))
    assert counts.forgiving(9).bad == 0


@st.composite
def some_counts(draw: st.DrawFn) -> PhaseCounts:
    good, bad, lost, neutral, unfinished = (draw(st.integers(0, 200)) for _ in range(5))
    return PhaseCounts(good + bad + lost + neutral + unfinished, good, bad, lost, neutral)


PERCENT = st.integers(0, 100)


@given(some_counts(), PERCENT, PERCENT, st.integers(1, 50))
def test_the_rules_agree_with_fractions(counts: PhaseCounts, success: int, error: int, sample: int) -> None:
    thresholds = Thresholds(success, error, sample)
    judged = counts.admitted - counts.lost - counts.neutral
    denominator = max(counts.good + counts.bad, min(sample, judged))
    exceeded = counts.bad > 0 and Fraction(counts.bad, denominator) > Fraction(error, 100)
    assert thresholds.is_exceeded(counts) is exceeded
    enough = counts.good > 0 and Fraction(counts.good, judged) >= Fraction(success, 100)
    assert thresholds.is_success(counts) is enough
    assert not (thresholds.is_success(counts) and thresholds.is_missed(counts))


@given(some_counts(), PERCENT)
def test_a_phase_whose_devices_have_all_ended_has_succeeded_or_missed(counts: PhaseCounts, success: int) -> None:
    """Otherwise it would wait forever."""
    thresholds = Thresholds(success)
    if counts.unfinished == 0 and counts.good:
        assert thresholds.is_success(counts) is not thresholds.is_missed(counts)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 500), min_size=1, max_size=8), st.data())
def test_every_stratum_gets_its_share(sizes: dict[str, int], data: st.DataObject) -> None:
    total = sum(sizes.values())
    devices = data.draw(st.integers(0, total))
    shares = quotas(sizes, devices)
    assert sum(shares.values()) == devices
    for stratum, share in shares.items():
        exact = Fraction(devices * sizes[stratum], total)
        assert abs(share - exact) < 1
        assert share <= sizes[stratum]
