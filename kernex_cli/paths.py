"""The rules for paths in a bundle, checked before anything is read or sent."""

import unicodedata
from collections.abc import Sequence

from kernex_cli.errors import BadManifest

MAX_NAME_SIZE = 255
MAX_PATH_SIZE = 1024
# Control and format characters, line and paragraph separators, private-use characters, surrogates: they are invisible.
INVISIBLE_CATEGORIES = {"Cc", "Cf", "Zl", "Zp", "Co", "Cs"}


def check_path(path: object) -> None:
    """Check that every device can create `path` inside a release.

    Raises: `BadManifest` (`bad_path`, `path_too_long`).
    """
    if not isinstance(path, str) or path == "":
        raise BadManifest("bad_path", "A path in a bundle must be a non-empty string.")
    subject = f"The path {path[:200]!a}"
    names = path.split("/")
    try:
        sizes = [len(name.encode()) for name in names]
    except UnicodeEncodeError:
        raise BadManifest("bad_path", f"{subject} is not valid UTF-8: rename the file.") from None
    if sum(sizes) + len(sizes) - 1 > MAX_PATH_SIZE:
        raise BadManifest("path_too_long", f"{subject} is longer than {MAX_PATH_SIZE} bytes.")
    if max(sizes) > MAX_NAME_SIZE:
        raise BadManifest("path_too_long", f"{subject} has a name longer than {MAX_NAME_SIZE} bytes.")
    if "\\" in path:
        raise BadManifest("bad_path", f"{subject} contains a backslash: rename the file.")
    if any(unicodedata.category(character) in INVISIBLE_CATEGORIES for character in path):
        raise BadManifest("bad_path", f"{subject} contains a control character or an invisible one: rename the file.")
    if unicodedata.normalize("NFC", path) != path:
        raise BadManifest("bad_path", f"{subject} is not in Unicode normal form C.")
    if not {"", ".", ".."}.isdisjoint(names):
        raise BadManifest("bad_path", f"{subject} must be relative and must not contain empty parts, `.` or `..`.")
    if any(name.startswith(" ") or name.endswith((" ", ".")) for name in names):
        raise BadManifest(
            "bad_path", f"{subject} has a name that begins with a space or ends with a space or a dot: rename the file."
        )


def check_together(paths: Sequence[str]) -> None:
    """Check that all paths can exist together on a case-insensitive file system.

    Raises: `BadManifest` (`duplicate_path`, `path_conflict`).
    """
    path_by_key: dict[str, str] = {}
    for path in paths:
        if other := path_by_key.get(_key(path)):
            raise BadManifest(
                "duplicate_path", f"{other!a} and {path!a} are the same file if case is ignored: rename one of them."
            )
        path_by_key[_key(path)] = path
    for path in paths:
        names = _key(path).split("/")
        for depth in range(1, len(names)):
            if other := path_by_key.get("/".join(names[:depth])):
                raise BadManifest("path_conflict", f"{other!a} is a file, but {path!a} needs it to be a directory.")


def _key(path: str) -> str:
    """Return the same text for all paths that a case-insensitive file system treats as equal."""
    folded = unicodedata.normalize("NFC", path).casefold()
    return unicodedata.normalize("NFC", folded)
