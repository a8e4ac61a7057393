"""The rules for paths in a manifest: every device can create them, and none leads outside a release."""

import unicodedata
from collections.abc import Iterable

from bundles.errors import BadBundle

MAX_NAME_SIZE = 255
MAX_PATH_SIZE = 1024
# Unicode categories that people cannot see or that displays reorder: control, format, line and paragraph separators,
# private use, surrogates.
FORBIDDEN_CATEGORIES = {"Cc", "Cf", "Zl", "Zp", "Co", "Cs"}


def check_path(path: object) -> str:
    """Return `path` if it is relative, plain and portable.

    Raises `BadBundle`: `bad_path` for a wrong character, part or form, `path_too_long` for a name over 255 or a
    path over 1,024 bytes of UTF-8.
    """
    if not isinstance(path, str) or not path:
        raise BadBundle("bad_path", "A path must be a string that is not empty.")
    shown = ascii(path[:200])
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        raise BadBundle("bad_path", f"The path {shown} contains a lone surrogate.") from None
    if size > MAX_PATH_SIZE:
        raise BadBundle("path_too_long", f"The path {shown}… is longer than {MAX_PATH_SIZE} bytes.")
    if "\\" in path or any(unicodedata.category(character) in FORBIDDEN_CATEGORIES for character in path):
        raise BadBundle("bad_path", f"The path {shown} contains a backslash, a control or an invisible character.")
    if not unicodedata.is_normalized("NFC", path):
        raise BadBundle("bad_path", f"The path {shown} is not in Unicode normal form C.")
    for name in path.split("/"):
        if name in {"", ".", ".."}:
            raise BadBundle("bad_path", f"The path {shown} is absolute or has an empty, `.` or `..` part.")
        if name[0] == " " or name[-1] in ". ":
            raise BadBundle(
                "bad_path", f"A name in the path {shown} starts with a space, or ends with a dot or a space."
            )
        if len(name.encode("utf-8")) > MAX_NAME_SIZE:
            raise BadBundle("path_too_long", f"A name in the path {shown} is longer than {MAX_NAME_SIZE} bytes.")
    return path


def check_together(paths: Iterable[str]) -> None:
    """Check that valid paths fit into one directory tree, even on a file system that ignores case.

    Raises `BadBundle`: `duplicate_path`, or `path_conflict` where one path is another's directory.
    """
    seen: dict[str, str] = {}
    for path in paths:
        key = folded(path)
        if key in seen:
            raise BadBundle("duplicate_path", f"The paths {seen[key]!a} and {path!a} are the same file.")
        seen[key] = path
    directories: set[str] = set()
    for key, path in seen.items():
        parent = key.rpartition("/")[0]
        while parent and parent not in directories:
            if parent in seen:
                raise BadBundle("path_conflict", f"{seen[parent]!a} is a file and a directory of {path!a}.")
            directories.add(parent)
            parent = parent.rpartition("/")[0]


def folded(path: str) -> str:
    """Return the form that is equal for two paths if a file system that ignores case or Unicode form unites them."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
