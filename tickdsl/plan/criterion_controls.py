"""The controls that start where a ticket starts, and prune these weights by another criterion to the ticket's size."""

from __future__ import annotations

import attrs

from tickdsl.plan.model import Arm, Evolve, Grow, Perturb, Retrain, Rewind


@attrs.frozen
class CriterionControl:
    """A criterion, whether it uses training images, which the seed selects, and in how many steps it prunes."""

    name: str
    pictures: bool = False
    iterations: int = 1


#: SynFlow prunes in 100 steps, as its authors do: in one, it empties layers.
CRITERION_CONTROLS = {
    "by-magnitude": CriterionControl("magnitude"),
    "by-snip": CriterionControl("snip", pictures=True),
    "by-grasp": CriterionControl("grasp", pictures=True),
    "by-synflow": CriterionControl("synflow", iterations=100),
}


def starts_from_dense_weights(arm: Arm) -> bool:
    """Whether the training of every ticket starts from weights of the dense network, which all units have."""
    for group in arm.rounds:
        tails = [tail for tail in group.tail if isinstance(tail, Rewind | Retrain | Grow | Evolve | Perturb)]
        fresh = any(isinstance(tail, Retrain) and tail.fresh for tail in tails)
        rewound = any(isinstance(tail, Rewind) and tail.what == "weights" and not tail.current for tail in tails)
        # `recalibrate` stores the weights of what is left.
        interrupts = group.prune.at is not None and group.prune.settles is None and not group.tail and not arm.cycles
        if fresh or group.cycles or any(isinstance(tail, Grow | Evolve | Perturb) for tail in tails):
            return False
        if not (rewound or interrupts or group.joined):
            return False
    return all(group.prune.at is not None for group in arm.rounds) or bool(arm.rounds[-1].tail)
