"""Which paths a bundle may hold, decided before anything is read or sent."""

import re
import unicodedata
from collections.abc import Sequence

from kernex_cli.errors import BadManifest

MAX_NAME_SIZE = 255
MAX_PATH_SIZE = 1024
# A space at either end of a name, or a dot at its end: Windows and many tools drop them.
_TRIMMED = re.compile(r"(^|/) |[ .](/|$)")


def check_path(path: object) -> None:
    """Raises `BadManifest` (`bad_path`, `path_too_long`) unless every device can create `path` inside a release."""
    if not isinstance(path, str) or path == "":
        raise BadManifest("bad_path", "A path in a bundle is a text that is not empty.")
    shown = f"The path {path[:200]!a}"
    try:
        lengths = [len(name.encode()) for name in path.split("/")]
    except UnicodeEncodeError:
        raise BadManifest("bad_path", f"{shown} is not valid UTF-8: rename the file.") from None
    if sum(lengths) + len(lengths) - 1 > MAX_PATH_SIZE:
        raise BadManifest("path_too_long", f"{shown} is longer than {MAX_PATH_SIZE} bytes.")
    if max(lengths) > MAX_NAME_SIZE:
        raise BadManifest("path_too_long", f"{shown} has a name longer than {MAX_NAME_SIZE} bytes.")
    if "\\" in path or any(_is_invisible(character) for character in path):
        raise BadManifest("bad_path", f"{shown} has a backslash, a control or an invisible character: rename the file.")
    if unicodedata.normalize("NFC", path) != path:
        raise BadManifest("bad_path", f"{shown} is not in Unicode normal form C.")
    if not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise BadManifest("bad_path", f"{shown} is not relative and plain: no empty part, no `.`, no `..`.")
    if _TRIMMED.search(path):
        raise BadManifest(
            "bad_path", f"{shown} has a name that starts with a space or ends with a dot or a space: rename the file."
        )


def _is_invisible(character: str) -> bool:
    """Whether it is a control, format, separator, private or surrogate character (Cc, Cf, Zl, Zp, Co, Cs)."""
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Co", "Cs")


def check_together(paths: Sequence[str]) -> None:
    """What a file system that ignores case could not hold. Raises `BadManifest`: `duplicate_path`, `path_conflict`."""
    by_key: dict[str, str] = {}
    for path in paths:
        if other := by_key.get(_key(path)):
            raise BadManifest(
                "duplicate_path", f"{other!a} and {path!a} are one file where case is ignored: rename one."
            )
        by_key[_key(path)] = path
    for path in paths:
        names = _key(path).split("/")
        for depth in range(1, len(names)):
            if blocker := by_key.get("/".join(names[:depth])):
                raise BadManifest(
                    "path_conflict", f"{blocker!a} would have to be a file and the directory of {path!a}."
                )


def _key(path: str) -> str:
    folded = unicodedata.normalize("NFC", path).casefold()
    return unicodedata.normalize("NFC", folded)
