"""The evaluations of a search as steps of their own: a network, what each layer loses of it, and data."""

from __future__ import annotations

from collections.abc import Mapping

from tickdsl.plan.steps import Step

#: The scope of prunes that search what each layer loses.
SEARCHED = "searched"
#: What says how much the prune removes, and how long it searches: no part of an evaluation.
_AMOUNTS = ("scope", "share", "of_original", "to", "of", "count", "matching", "evaluations")


def is_search(step: Step) -> bool:
    """Whether a step searches the amounts of its prune."""
    return step.operation == "prune" and step.args.get("scope") == SEARCHED


def candidate_step(prune: Step, removed: Mapping[str, int]) -> Step:
    """The evaluation of the network that is pruned, with so many units of each layer removed.

    Layers that lose nothing are left out. The key does not depend on how much the prune removes, so that prunes of the
    same network share their evaluations.
    """
    args = {name: value for name, value in prune.args.items() if name not in _AMOUNTS}
    parents = {role: key for role, key in prune.parents.items() if role != "matched"}
    return Step(
        "candidate", {**args, "removed": {n: count for n, count in removed.items() if count}}, parents, prune.seed
    )
