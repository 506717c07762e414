"""Format counts with their nouns: "1 step", "2 steps"."""

from __future__ import annotations

#: Words whose plural is not formed by the rules below, or that would match the wrong one.
_IRREGULAR = {
    "epoch": "epochs",
    "is": "are",
    "was": "were",
    "has": "have",
    "does": "do",
    "this": "these",
    "that": "those",
    "it": "they",
}


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: `plural(1, "step")` is "1 step", `plural(1200, "step")` is "1,200 steps".

    Only the last word of `noun` changes: "training run" becomes "training runs".
    """
    return f"{count:,} {agreeing(count, noun)}"


def agreeing(count: int, noun: str) -> str:
    """The noun or verb that agrees with a count, without the count: `agreeing(2, "is")` is "are"."""
    if count == 1:
        return noun
    head, _, last = noun.rpartition(" ")
    return f"{head} {_plural_of(last)}".lstrip()


def _plural_of(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}s"
