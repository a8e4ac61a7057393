"""Suggestions for misspelt commands, options and names."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(text: str, candidates: Iterable[str]) -> str:
    """Return ` Did you mean …?` with the most similar candidates, or nothing if none is similar."""
    candidate_by_key = {candidate.strip("-").lower(): candidate for candidate in candidates}
    keys = get_close_matches(text.strip("-").lower(), list(candidate_by_key), n=2, cutoff=0.7)
    matches = [candidate_by_key[key] for key in keys]
    return f" Did you mean {' or '.join(f'`{match}`' for match in matches)}?" if matches else ""
