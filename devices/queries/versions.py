"""The order of versions, in Python and in SQL.

A version is split at `.` and `-`. Parts of digits are compared as numbers, others as text. Zeros at the end of a
release are ignored, and so is what follows `+`. A pre-release (after the first `-`) is lower than its release:

    1.0.0-rc1 < 1.0.0 = 1 = 1.0.0+b7 < 1.0.0.1 < 1.2 < 1.10
"""

import re

# Digits are filled up to the longest possible version, so that the order of texts is the order of numbers.
WIDTH = 64
# In the order of ASCII: what precedes a release, its end, and any further part.
PRE_RELEASE, END = "!", "#"
_SEPARATORS = re.compile(r"[.-]")
_ZEROS = re.compile(r"(\.0+)+\Z")

# `%(version)s` is a text expression. The result is an array of texts in C collation.
_RELEASE = "regexp_replace(split_part(split_part(%(version)s, '+', 1), '-', 1), '([.]0+)+$', '')"
_REST = "substring(split_part(%(version)s, '+', 1) FROM '-(.*)$')"
SQL_KEY = f"""(
    SELECT array_agg(CASE WHEN part ~ '^[0-9]+$' THEN lpad(part, {WIDTH}, '0') ELSE part END COLLATE "C" ORDER BY n)
    FROM regexp_split_to_table({_RELEASE} || coalesce('.{PRE_RELEASE}.' || {_REST}, '.{END}'), '[.-]')
        WITH ORDINALITY AS parts (part, n)
)"""  # noqa: S608


def key(version: str) -> list[str]:
    """Return the sort key of a version: the array that `SQL_KEY` computes."""
    release, dash, pre_release = version.partition("+")[0].partition("-")
    rest = f".{PRE_RELEASE}.{pre_release}" if dash else f".{END}"
    return [_padded(part) for part in _SEPARATORS.split(_ZEROS.sub("", release) + rest)]


def _padded(part: str) -> str:
    return part.zfill(WIDTH) if part.isascii() and part.isdigit() else part
