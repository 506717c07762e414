"""The arguments of `refill` and `regroup` steps, and which networks they have made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tickdsl.plan.model import Refill, Regroup
from tickdsl.plan.steps import Step

#: The operations whose structures consist of whole filters, or of dense blocks.
COARSENING_OPERATIONS = ("refill", "regroup")


def coarsening_args(tail: Refill | Regroup) -> dict[str, Any]:
    """The arguments of a step that gives masks a coarser form."""
    match tail:
        case Refill():
            return {"by": tail.by, **({"extra": float(tail.extra)} if tail.extra else {})}
        case Regroup():
            return {"groups": tail.groups, "ratio": tail.ratio, "min_rows": tail.min_rows}


def has_dense_blocks(structure: str | None, step_of: Callable[[str], Step]) -> bool:
    """Whether the structure that a step holds was refilled or regrouped, and not pruned again since.

    So was one that was drawn at random in the form of such a structure.
    """
    if structure is None:
        return False
    step = step_of(structure)
    return step.operation in COARSENING_OPERATIONS or (
        step.operation == "random-structure" and step.args.get("form") == "blocks"
    )
