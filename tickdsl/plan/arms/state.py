"""The state of an arm's pipeline while it is lowered, and the results that other arms refer to."""

from __future__ import annotations

import attrs

from tickdsl.moments import INIT, Moment
from tickdsl.plan.model import Distill, Options
from tickdsl.plan.step_builder import TrainingSpec

TICKET, DENSE = "ticket", "dense"


@attrs.define
class ArmResults:
    """The structures and trained tickets of an arm under one seed, by level, for arms that refer to it.

    `dense`: the network that its levels are compared with; the arm's own one if it has no prune.
    """

    dense: str = ""
    structures: list[str] = attrs.field(factory=list)
    tickets: list[str] = attrs.field(factory=list)


@attrs.frozen
class State:
    """The state of a pipeline, or of one part of a split."""

    weights: str
    structure: str | None
    pending: TrainingSpec | None
    part: int | None = None
    #: The moment of the dense training that the weights were rewound to.
    rewound: Moment = INIT
    #: Whether the weights were re-initialised.
    fresh: bool = False
    #: Whether a `retrain` of this round set the pending training.
    retrained: bool = False
    #: The number of rounds of pruning so far.
    round: int = 0
    #: The `distill` of the pending training, and the recipe that its dense teacher is trained by.
    distill: tuple[Distill, Options] | None = None
    #: The weights of the network straight after the last prune.
    pruned: str = ""
    #: The structure straight after the last prune.
    pruned_structure: str | None = None
    #: The number of times that noise was added so far.
    perturbed: int = 0
    #: Whether the weights are those of a training with this structure, and no training is pending.
    trained: bool = False
