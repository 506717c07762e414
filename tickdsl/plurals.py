"""Counts with their nouns: "1 step", "2 steps"."""

from __future__ import annotations

#: Words that follow no rule below.
_IRREGULAR = {
    "epoch": "epochs",
    "is": "are",
    "was": "were",
    "has": "have",
    "this": "these",
    "that": "those",
    "it": "they",
}


def plural(count: int, noun: str) -> str:
    """The count and its noun in agreement: `plural(1, "step")` is "1 step", `plural(1200, "step")` is "1,200 steps".

    The last word of `noun` is the one that changes: "training run", "parsed copy", "class".
    """
    return f"{count:,} {agreeing(count, noun)}"


def agreeing(count: int, noun: str) -> str:
    """The noun or verb in the form that `count` asks for, without the count: `agreeing(2, "is")` is "are"."""
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
