"""Rules for the paths in a manifest: paths stay inside their release and mean the same on every device."""

import unicodedata
from collections.abc import Iterable

from agent.errors import InstallationFailed

MAX_NAME_SIZE = 255
MAX_PATH_SIZE = 1024
# Unicode categories: control, format, line and paragraph separator, private use, surrogate.
INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Co", "Cs"})


class BadManifest(InstallationFailed):
    """A manifest breaks a rule. `code` names the rule, as docs/bundles.md lists it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__("bad_manifest", f"{message} ({code})", is_refusal=True)
        self.code = code


def check_path(path: object) -> str:
    """Return `path` if it is relative, normalized and portable. Raises `BadManifest`: `bad_path` or `path_too_long`."""
    if not isinstance(path, str) or not path:
        raise BadManifest("bad_path", "A path must be a string that is not empty.")
    quoted_path = ascii(path[:200])
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        raise BadManifest("bad_path", f"The path {quoted_path} has a lone surrogate.") from None
    if size > MAX_PATH_SIZE:
        raise BadManifest("path_too_long", f"The path {quoted_path} is longer than {MAX_PATH_SIZE} bytes.")
    if "\\" in path or not INVISIBLE.isdisjoint(map(unicodedata.category, path)):
        raise BadManifest("bad_path", f"The path {quoted_path} has a backslash, a control or an invisible character.")
    if unicodedata.normalize("NFC", path) != path:
        raise BadManifest("bad_path", f"The path {quoted_path} must be in Unicode normalization form C.")
    for name in path.split("/"):
        if name in {"", ".", ".."}:
            raise BadManifest("bad_path", f"The path {quoted_path} is absolute, or has an empty, `.` or `..` part.")
        if name != name.strip(" ") or name.endswith("."):
            raise BadManifest(
                "bad_path", f"The path {quoted_path} has a name with a space at either end or a dot at the end."
            )
        if len(name.encode("utf-8")) > MAX_NAME_SIZE:
            raise BadManifest(
                "path_too_long", f"A name in the path {quoted_path} is longer than {MAX_NAME_SIZE} bytes."
            )
    return path


def check_tree(paths: Iterable[str]) -> None:
    """Check that all paths can exist in one directory tree, even on a file system that ignores case.

    Raises:
        BadManifest: `duplicate_path`, `path_conflict`.
    """
    files: set[str] = set()
    for path in paths:
        key = _folded(path)
        if key in files:
            raise BadManifest("duplicate_path", f"The path {path!a} appears more than once if case is ignored.")
        files.add(key)
    for key in files:
        for index, character in enumerate(key):
            if character == "/" and key[:index] in files:
                raise BadManifest("path_conflict", f"{key[:index]!a} is both a file and a directory.")


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
