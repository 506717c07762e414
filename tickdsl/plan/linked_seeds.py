"""How the seeds of an arm depend on each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tickdsl.plan.model import NEXT_SEED, Arm, MaskOf, Rewind, Tail

_NEXT = "the next seed"
#: Of more seeds, only the first and the last are named with the one that they take from.
_MAX_NAMED = 5


def linked(arm: Arm, seeds: Sequence[int]) -> str:
    """How the seeds of an arm depend on each other, as a sentence; empty if they do not."""
    donors = {donor for donor, _, _ in _taken(arm)}
    if not donors:
        return ""
    meaning = (
        "intervals and verdicts treat them as independent"
        if _NEXT in donors
        else "intervals and verdicts hold for that network alone"
    )
    return f"the seeds of `{arm.name}` are linked: each {takes(arm, seeds)}; {meaning}"


def takes(arm: Arm, seeds: Sequence[int]) -> str:
    """What each seed of an arm takes from another network: `takes the mask of seed 9`; empty for nothing."""
    found: dict[tuple[str, str], list[str]] = {}
    for donor, aligned, what in _taken(arm):
        names = found.setdefault((donor, aligned), [])
        names += [] if what in names else [what]
    clauses = []
    turns = _in_turn(seeds)
    for (donor, aligned), names in found.items():
        said = [turns, aligned] if donor == _NEXT else [aligned]
        turns = "" if donor == _NEXT else turns  # once
        brackets = "; ".join(text for text in said if text)
        clauses.append(f"the {' and the '.join(names)} of {donor}" + (f" ({brackets})" if brackets else ""))
    return f"takes {' and '.join(clauses)}" if found else ""


def _taken(arm: Arm) -> list[tuple[str, str, str]]:
    """What all seeds take: whose it is, how its units are aligned, and what it is."""
    return [
        (donor, _aligned(tail), tail.what if isinstance(tail, Rewind) else "mask")
        for tail in arm.tails
        if (donor := _donor(tail))
    ]


def _donor(tail: Tail) -> str:
    """The one network, or the neighbour, that all seeds take something from, in words; empty for none."""
    match tail:
        case Rewind(of=of) | MaskOf(of=of) if of:
            return _NEXT if of == NEXT_SEED else f"seed {of}"
        case MaskOf(run=run, seed=int(seed)):
            return f"seed {seed} of run {run}"
    return ""


def _aligned(tail: Tail) -> str:
    """By what the units of the other network are put in the order of this one's."""
    if not isinstance(tail, Rewind | MaskOf) or not tail.align:
        return ""
    return f"aligned by the {matched_by(tail)} of the {tail.align} networks"


def matched_by(tail: Rewind | MaskOf) -> str:
    """What the units of two networks are matched by: `weights` or `activations`."""
    return "activations" if tail.images else "weights"


def _in_turn(seeds: Sequence[int]) -> str:
    """Which seed is the next one of each: `1 from 2, 2 from 3, 3 from 1`; empty if there is only one."""
    if len(seeds) < 2:
        return ""
    pairs = [f"{seed} from {donor}" for seed, donor in itertools.pairwise([*seeds, seeds[0]])]
    shown = pairs if len(pairs) <= _MAX_NAMED else [pairs[0], "…", pairs[-1]]
    return ", ".join(shown)
