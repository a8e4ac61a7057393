"""One message, described three times: the fast reader, the serializer for OpenAPI, and the contract's examples."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.device_serializers import HeartbeatRequest, RunningBundle
from devices.heartbeat_message import HeartbeatReport, read
from foundation.errors import BadRequest
from tests.devices.signing import heartbeat_body

CONTRACT = json.loads((Path(__file__).parent.parent / "contract" / "device-api.json").read_text())
EXAMPLES = [example["request"]["body"] for example in CONTRACT if example["call"] == "heartbeat"]

BUNDLE = {"version": "1.0.0", "manifest_sha256": "ab" * 32, "healthy": True}
# The JSON parser refuses everything else.
TEXT = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
# Values that one reader might convert and the other refuse, and values near the limits.
TEMPTING = [
    None, True, False, -1, 0, 1, 1.0, 10_000, 10_001, "0", "1", "true", "1.0", " ", "", [], {}, [True], ["1"], [1.0],
    "a\n", "1.0.0\n", "x" * 500, "x" * 501,
    "x" * 32, "x" * 33, "x" * 64, "x" * 65, "done ", {"x": "ü" * 4085}, {"x": "y" * 4088}, {"x": "y" * 4089},
    {"x": 2**53}, {"x": 2**53 + 1}, {"x": [{"y": -(2**53) - 1}]}, {"x": -1e308}, {"x": 1e-308},
    {"x": 1e-30}, {"x": 0.0}, {"x": [True, 9.1e15]},
]  # fmt: skip
ODD = st.one_of(
    st.sampled_from(TEMPTING),
    st.sampled_from(TEMPTING),
    st.none(), st.booleans(), st.integers(-2, 2**63), st.floats(allow_nan=False), st.text(TEXT, max_size=5),
    st.sampled_from(["x" * 32, "x" * 33, "x" * 64, "x" * 65, " ", "1.0.0", "ab" * 32, "a\n", "done", "failed"]),
    st.lists(st.integers(-1, 3), max_size=3), st.just({}),
    st.sampled_from([{"x": "y" * 4085}, {"x": "y" * 4090}, {"x": "ü" * 16_370}, {"x": "ü" * 16_380}]),
)  # fmt: skip


def mostly(usual: Any, odd: st.SearchStrategy[Any] = ODD) -> st.SearchStrategy[Any]:
    """Return mostly usual values and a few odd ones, so that most of a body is valid."""
    usual = usual if isinstance(usual, st.SearchStrategy) else st.just(usual)
    return st.integers(0, 9).flatmap(lambda number: odd if number == 9 else usual)


def with_optional(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


BUNDLES = st.dictionaries(
    st.sampled_from(["vad", "a" * 63, "a" * 64, "Bad Name", "vad\n"]),
    mostly(
        with_optional(
            {"version": mostly("1.0.0"), "manifest_sha256": mostly("ab" * 32), "healthy": mostly(st.booleans())},
            {
                "restarts": mostly(st.integers(0, 10_000)),
                "message": mostly(st.sampled_from(["", "x" * 500, "x" * 501])),
                "verdict": mostly({"n": 1}),
                "unknown": ODD,
            },
        )
    ),
    max_size=3,
)
OUTCOMES = st.lists(
    mostly(
        with_optional(
            {"id": mostly(st.integers(1, 9)), "outcome": mostly(st.sampled_from(["done", "unknown_command"]))},
            {"message": mostly(st.sampled_from(["", "x" * 500, "x" * 501]))},
        )
    ),
    max_size=3,
)
BODIES = with_optional(
    {
        "agent_version": mostly("1.0.0"),
        "boot_id": mostly("boot"),
        "status": mostly("idle"),
        "running_bundles": mostly(BUNDLES),
    },
    {
        "metrics": mostly({"n": 1}),
        "acknowledged_commands": mostly(st.lists(mostly(st.integers(1, 2**63 - 1)), max_size=3)),
        "command_outcomes": mostly(OUTCOMES),
        "unknown": ODD,
    },
)


def compare(body: Any) -> None:
    """Check that reader and serializer accept the same, refuse the same field, and read the same values."""
    serializer = HeartbeatRequest(data=body)
    is_valid = serializer.is_valid()
    if is_valid:
        assert exact(values(read(body))) == exact({**values_of_absent(), **present(serializer.validated_data)})
        return
    with pytest.raises(BadRequest) as refused:
        read(body)
    fields: Any = refused.value.extra["fields"]
    assert set(fields) <= set(serializer.errors)


def values(report: HeartbeatReport) -> dict[str, Any]:
    return {
        "agent_version": report.agent_version,
        "boot_id": report.boot_id,
        "status": report.status,
        "metrics": json.loads(report.metrics),
        "running_bundles": json.loads(report.running_bundles),
        "acknowledged_commands": report.acknowledged_commands,
        "command_outcomes": [
            {"id": outcome.command_id, "outcome": outcome.outcome, "message": outcome.message}
            for outcome in report.command_outcomes
        ],
    }


def exact(value: Any) -> str:
    """Return a text that tells `1` from `True`."""
    return json.dumps(value, sort_keys=True)


def values_of_absent() -> dict[str, Any]:
    return {"metrics": {}, "acknowledged_commands": [], "command_outcomes": []}


def present(data: Any) -> dict[str, Any]:
    """The serializer's values without nulls, which mean the same as an absent field."""
    kept = {name: value for name, value in data.items() if value is not None}
    kept["running_bundles"] = {
        product: {name: value for name, value in bundle.items() if value is not None}
        for product, bundle in kept["running_bundles"].items()
    }
    if "command_outcomes" in kept:
        kept["command_outcomes"] = [{"message": "", **outcome} for outcome in kept["command_outcomes"]]
    return kept


@settings(max_examples=500, deadline=None)
@given(BODIES)
def test_reader_and_serializer_agree(body: Any) -> None:
    compare(body)


FULL = {
    **heartbeat_body(),
    "running_bundles": {"vad": {**BUNDLE, "restarts": 3, "message": "no camera", "verdict": {"n": 1}}},
    "acknowledged_commands": [1],
    "command_outcomes": [{"id": 1, "outcome": "done", "message": ""}],
}
BUNDLE_FIELDS: list[str] = list(RunningBundle().fields)
PATHS: list[tuple[str | int, ...]] = [
    *((name,) for name in FULL),
    ("acknowledged_commands", 0),
    ("running_bundles", "vad"),
    *(("running_bundles", "vad", name) for name in BUNDLE_FIELDS),
    ("command_outcomes", 0),
    *(("command_outcomes", 0, name) for name in ("id", "outcome", "message")),
]


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_reader_and_serializer_agree_on_tempting_values(path: tuple[str | int, ...]) -> None:
    for value in TEMPTING:
        body: Any = deepcopy(FULL)
        parent = body
        for step in path[:-1]:
            parent = parent[step]
        parent[path[-1]] = value
        compare(body)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_reader_and_serializer_agree_on_the_contract(number: int) -> None:
    compare(EXAMPLES[number])


@pytest.mark.parametrize(
    "changes",
    [
        {"running_bundles": {f"p{number}": BUNDLE for number in range(64)}},
        {"running_bundles": {f"p{number}": BUNDLE for number in range(65)}},
        {"acknowledged_commands": [1] * 1000},
        {"acknowledged_commands": [1] * 1001},
        {"command_outcomes": [{"id": 1, "outcome": "done"}] * 100},
        {"command_outcomes": [{"id": 1, "outcome": "done"}] * 101},
        {"command_outcomes": [{"id": 1, "outcome": "done", "message": None}]},
        *({"running_bundles": {"vad": {**BUNDLE, "message": "x" * length}}} for length in (0, 500, 501)),
        {"metrics": {"x": "y" * (16 * 1024 - 8)}},
        {"metrics": {"x": "y" * (16 * 1024 - 7)}},
        *({"metrics": {"x": [number]}} for number in (2**53, -(2**53), 2**53 + 1, 1e308)),
    ],
    ids=str,
)
def test_reader_and_serializer_agree_on_limits(changes: dict[str, Any]) -> None:
    compare(heartbeat_body(**changes))


def test_every_field_of_the_contract_is_in_the_schema() -> None:
    fields = {name for example in EXAMPLES for name in example}
    assert fields <= set(HeartbeatRequest().fields)
    derived = {"running_sha256", "health"}
    assert set(HeartbeatRequest().fields) == set(HeartbeatReport.__dataclass_fields__) - derived


def test_every_field_of_a_running_bundle_is_in_the_schema() -> None:
    bundles = [bundle for example in EXAMPLES for bundle in example.get("running_bundles", {}).values()]
    assert {name for bundle in bundles for name in bundle} == set(BUNDLE_FIELDS)
    assert set(FULL["running_bundles"]["vad"]) == set(BUNDLE_FIELDS)
