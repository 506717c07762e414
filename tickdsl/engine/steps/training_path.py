"""The trainings that led to a network, each counted once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction

from tickdsl.records.canonical import canonical_json
from tickdsl.records.store import Result


def sum_over_trainings(
    keys: Iterable[str], read: Callable[[str], Result], amount: Callable[[Result], Fraction | int]
) -> int:
    """The sum of an amount over the trainings among these steps and all that they come from, rounded.

    A training up to a moment is part of the longer one that stored it on its way, if that is among them. `read` returns
    the result of a step; what it raises for a missing one passes through.
    """
    longest: dict[bytes, Fraction] = {}
    pending, seen = list(keys), set()
    while pending:
        key = pending.pop()
        if key in seen:
            continue
        seen.add(key)
        result = read(key)
        parts = result.data["parts"]
        pending.extend(parts["parents"].values())
        if parts["operation"] == "train":
            args = {name: value for name, value in parts["args"].items() if name != "stop"}
            same = canonical_json({**parts, "args": args})
            longest[same] = max(longest.get(same, Fraction(0)), Fraction(amount(result)))
    return round(sum(longest.values(), Fraction(0)))
