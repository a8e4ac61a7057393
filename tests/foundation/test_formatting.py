"""Durations and ages for people."""

from datetime import timedelta

import pytest
from django.utils import timezone

from foundation.formatting import age, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"), (0, "0 s"), (40, "40 s"), (60, "1 min"), (90, "1 min 30 s"), (600, "10 min"), (3600, "1 h"),
        (3630, "1 h"), (5400, "1 h 30 min"), (86_400, "24 h"), (172_800, "2 days"), (190_800, "2 days 5 h"),
    ],
)  # fmt: skip
def test_durations_are_exact_enough_to_plan_with(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_age_has_one_unit() -> None:
    assert ">1 h ago<" in age(timezone.now() - timedelta(minutes=95))
