"""Properties that hold for any path."""

import unicodedata
from contextlib import suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundles.errors import BadBundle
from bundles.paths import check_path, check_together, folded

# Includes what no path may contain: separators, dots, control and invisible characters, surrogates.
FORBIDDEN = [*"/\\ \x00\x1f\x7f\x85\x9f", "\ud800", "\u202e", "\u200b", "\u2028", "\ue000"]
ALPHABET = st.sampled_from(
    [*"aAbB./", *FORBIDDEN, *"féÉß", "\u017f", "\u03c3", "\u03c2", "\u0301", "\u212b", "ǰ", "İ", "🙂"]
)
TEXTS = st.one_of(st.text(ALPHABET, max_size=12), st.text(max_size=40), st.text("a/", max_size=1100))


NAMES = st.text(st.sampled_from("aAbB.é\u00c9ß\u017f\u03c3\u03c2İ🙂 "), min_size=1, max_size=4)
GOOD = st.lists(NAMES.filter(lambda name: name[0] != " " and name[-1] not in ". "), min_size=1, max_size=4).map(
    "/".join
)
NO_DEADLINE = settings(deadline=None)  # a slow machine is not a failure


def accepted(path: str) -> bool:
    try:
        return check_path(path) == path
    except BadBundle:
        return False


@given(TEXTS)
@NO_DEADLINE
def test_an_accepted_path_stays_inside(path: str) -> None:
    if accepted(path):
        parts = PurePosixPath("/release", path).parts
        assert parts[:2] == ("/", "release")
        assert ".." not in parts
        assert "/".join(parts[2:]) == path
        assert len(path.encode()) <= 1024
        assert max(len(part.encode()) for part in parts) <= 255
        assert unicodedata.normalize("NFC", path) == path
        assert not {unicodedata.category(character) for character in path} & {"Cc", "Cf", "Zl", "Zp", "Co", "Cs"}
        assert not any(part[0] == " " or part[-1] in ". " for part in parts[2:])


@given(GOOD)
@NO_DEADLINE
def test_plain_names_are_accepted(path: str) -> None:
    assert accepted(unicodedata.normalize("NFC", path))


@given(TEXTS)
@NO_DEADLINE
def test_only_a_bad_bundle_is_ever_raised(path: str) -> None:
    with suppress(BadBundle):
        check_path(path)


@given(st.lists(GOOD, max_size=6))
@settings(NO_DEADLINE, max_examples=200)
def test_accepted_paths_can_be_created_together(paths: list[str]) -> None:
    try:
        check_together(paths)
    except BadBundle:
        return
    with TemporaryDirectory() as directory:
        for path in paths:
            file = Path(directory, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x"):
                pass
    assert len({folded(path) for path in paths}) == len(paths)


@given(st.lists(GOOD, min_size=1, max_size=4), st.data())
@NO_DEADLINE
def test_a_path_in_another_case_is_refused(paths: list[str], data: st.DataObject) -> None:
    twin = unicodedata.normalize("NFC", data.draw(st.sampled_from(paths)).swapcase())
    # Some letters, such as the Turkish dotted I, become different letters when their case is swapped.
    if any(folded(twin) == folded(path) for path in paths):
        with pytest.raises(BadBundle):
            check_together([*paths, twin])


@given(GOOD)
@NO_DEADLINE
def test_folding_twice_is_folding_once(path: str) -> None:
    assert folded(folded(path)) == folded(path)
