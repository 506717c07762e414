"""Suggestions for misspelt words, and lists of alternatives for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from tickdsl.lang.synonyms import SYNONYMS


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` probably means: its synonym, the closest spelling or a prefix. None if none is close.

    Ignores upper and lower case.
    """
    spelt = {candidate.lower(): candidate for candidate in known}
    word, known = word.lower(), list(spelt)
    if SYNONYMS.get(word) in known:
        return SYNONYMS[word]
    close = difflib.get_close_matches(word, known, n=5, cutoff=0.6)
    # Swapped letters are the most common typo, and difflib ranks them no higher than wrong letters.
    swapped = [candidate for candidate in close if sorted(candidate) == sorted(word)]
    # `acc` for `accuracy`, `l1-norm` for `l1`.
    prefixes = [
        candidate
        for candidate in known
        if len(candidate) > 1 < len(word) and (candidate.startswith(word) or word.startswith(candidate))
    ]
    found = next(iter(swapped or close or prefixes), None)
    return None if found is None else spelt[found]


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """``did you mean `x`?``, or None if no known word is close."""
    suggestion = suggest(word, known)
    return f"did you mean `{suggestion}`?" if suggestion else None


def join_or(words: Iterable[str], limit: int = 12) -> str:
    """`a, b or c`; beyond `limit` words, the first ones and the total."""
    items = list(words)
    if len(items) > limit:
        return ", ".join(items[:limit]) + f", … ({len(items)} in total)"
    if not items:
        return "nothing"
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} or {items[-1]}"
