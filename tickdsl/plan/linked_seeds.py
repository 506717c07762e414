"""How the seeds of an arm depend on each other."""

from __future__ import annotations

from tickdsl.plan.model import NEXT_SEED, Arm, MaskOf, Rewind


def linked(arm: Arm) -> str:
    """How the seeds of an arm depend on each other, as a sentence; empty if they do not."""
    taken: dict[str, list[str]] = {}
    for tail in arm.tails:
        if isinstance(tail, Rewind | MaskOf) and tail.of:
            names = taken.setdefault(tail.of, [])
            what = "mask" if isinstance(tail, MaskOf) else tail.what
            names += [] if what in names else [what]
    if not taken:
        return ""
    donors = (
        f"takes the {' and the '.join(names)} of {'the next one' if of == NEXT_SEED else f'seed {of}'}"
        for of, names in taken.items()
    )
    meaning = (
        "intervals and verdicts treat them as independent"
        if NEXT_SEED in taken
        else "intervals and verdicts hold for that network alone"
    )
    return f"the seeds of `{arm.name}` are linked, for each {' and '.join(donors)}: {meaning}"
