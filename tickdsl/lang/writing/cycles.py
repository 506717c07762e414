"""Fold pruning rounds into `cycle` blocks: repeated rounds, and prunes that share a round."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from tickdsl.plan import model

#: Maximum length of a repeated sequence of rounds that is looked for.
_MAX_CYCLE_LENGTH = 64


def fold_into_cycles(rounds: Sequence[model.Rounds], texts: Sequence[Hashable]) -> Iterator[tuple[int | None, range]]:
    """Yield the rounds, in order, as (repetitions, indices of the body). Repetitions are None if no `cycle` is needed.

    Two rounds are the same if their `texts` are equal.
    """
    keys = [(text, group.joined) for text, group in zip(texts, rounds, strict=True)]
    start = 0
    while start < len(rounds):
        times, length = _best_repetition(rounds, keys, start)
        body = range(start, start + length)
        yield (times if times > 1 or length > 1 else None), body
        start += times * length


def _best_repetition(rounds: Sequence[model.Rounds], keys: Sequence[Hashable], start: int) -> tuple[int, int]:
    """(repetitions, body length) of the repetition that starts at `start` and covers the most rounds."""
    joined = 1
    while rounds[start + joined - 1].joined:
        joined += 1
    best = (1, joined)
    for length in range(joined, min(_MAX_CYCLE_LENGTH, (len(rounds) - start) // 2) + 1):
        if not _is_cycle_body(rounds[start : start + length]):
            continue
        times, end = 1, start + length
        while keys[start : start + length] == keys[end : end + length]:
            times, end = times + 1, end + length
        if times > 1 and times * length > best[0] * best[1]:
            best = (times, length)
    return best


def _is_cycle_body(rounds: Sequence[model.Rounds]) -> bool:
    """Whether these rounds, written in a `cycle` block, resolve to the same rounds again."""
    if len(rounds) == 1 and is_single_round(rounds[0].prune) and not rounds[0].cycles:
        return False  # `cycle 3 { prune … }` would resolve to one prune with three rounds
    return not rounds[-1].joined and all(group.joined == joins_next(group) for group in rounds[:-1])


def is_single_round(prune: model.Prune) -> bool:
    """Whether a prune has exactly one round."""
    return prune.times == 1 and prune.until is None and prune.ends is None


def joins_next(group: model.Rounds) -> bool:
    """Whether a prune in a `cycle` shares its round with the next prune: it has one round and nothing follows it."""
    return not group.tail and not group.cycles and is_single_round(group.prune)
