"""Rounds back to `cycle` blocks: those that repeat, and prunes that are one round together."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from tickdsl.plan import model

#: Repeated sequences of rounds are looked for up to this length.
_LONGEST = 64


def folded(rounds: Sequence[model.Rounds], texts: Sequence[Hashable]) -> Iterator[tuple[int | None, range]]:
    """The rounds in order, as (repetitions, the places of one repetition); None where no `cycle` is needed.

    `texts` are equal where the statements of two rounds are.
    """
    alike = [(text, group.joined) for text, group in zip(texts, rounds, strict=True)]
    place = 0
    while place < len(rounds):
        times, length = _best(rounds, alike, place)
        body = range(place, place + length)
        yield (times if times > 1 or length > 1 else None), body
        place += times * length


def _best(rounds: Sequence[model.Rounds], alike: Sequence[Hashable], place: int) -> tuple[int, int]:
    """(repetitions, length) of the repetition at a place that holds the most rounds."""
    joined = 1
    while rounds[place + joined - 1].joined:
        joined += 1
    best = (1, joined)
    for length in range(joined, min(_LONGEST, (len(rounds) - place) // 2) + 1):
        if not _is_body(rounds[place : place + length]):
            continue
        times, end = 1, place + length
        while alike[place : place + length] == alike[end : end + length]:
            times, end = times + 1, end + length
        if times > 1 and times * length > best[0] * best[1]:
            best = (times, length)
    return best


def _is_body(rounds: Sequence[model.Rounds]) -> bool:
    """Whether the rounds, in the braces of a cycle, are read as they are."""
    if len(rounds) == 1 and single(rounds[0].prune):
        return False  # its rounds would be those of one prune
    return not rounds[-1].joined and all(group.joined == goes_on(group) for group in rounds[:-1])


def single(prune: model.Prune) -> bool:
    """Whether a prune has one round."""
    return prune.times == 1 and prune.until is None and prune.ends is None


def goes_on(group: model.Rounds) -> bool:
    """Whether a prune in a cycle is one round with the next one: it is done once, and nothing stands behind it."""
    return not group.tail and single(group.prune)
