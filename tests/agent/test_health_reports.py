"""A program's verdict is reported only if the server accepts its numbers."""

import json
import math

import pytest

from agent.programs.health_reports import read_body


@pytest.mark.parametrize("number", [0, -0.0, True, 1e-30, -1e-30, 0.5, 2**53, -(2**53)])
def test_a_number_that_the_server_accepts_is_reported(number: float) -> None:
    body = json.dumps({"verdict": {"n": [number]}}).encode()
    assert read_body(True, body).verdict == {"n": [number]}


@pytest.mark.parametrize("number", [1e-31, -5e-324, 2**53 + 1, -1e308, 10**400, math.inf, -math.inf, math.nan])
def test_a_verdict_with_another_number_is_omitted(number: float) -> None:
    body = json.dumps({"message": "fine", "verdict": {"n": {"m": number}}}).encode()
    report = read_body(True, body)
    assert (report.is_healthy, report.message, report.verdict) == (True, "fine", {})
