"""How the seeds of an arm depend on each other."""

from __future__ import annotations

from tickdsl.plan.model import NEXT_SEED, Arm, MaskOf, Rewind, Tail

_NEXT = "the next one"


def linked(arm: Arm) -> str:
    """How the seeds of an arm depend on each other, as a sentence; empty if they do not."""
    taken: dict[str, list[str]] = {}
    for tail in arm.tails:
        donor = _donor(tail)
        if donor:
            names = taken.setdefault(donor, [])
            what = tail.what if isinstance(tail, Rewind) else "mask"
            names += [] if what in names else [what]
    if not taken:
        return ""
    donors = (f"takes the {' and the '.join(names)} of {donor}" for donor, names in taken.items())
    meaning = (
        "intervals and verdicts treat them as independent"
        if _NEXT in taken
        else "intervals and verdicts hold for that network alone"
    )
    return f"the seeds of `{arm.name}` are linked, for each {' and '.join(donors)}: {meaning}"


def _donor(tail: Tail) -> str:
    """The one network, or the neighbour, that all seeds take something from, in words; empty for none."""
    match tail:
        case Rewind(of=of) | MaskOf(of=of) if of:
            return _NEXT if of == NEXT_SEED else f"seed {of}"
        case MaskOf(run=run, seed=int(seed)):
            return f"seed {seed} of run {run}"
    return ""
