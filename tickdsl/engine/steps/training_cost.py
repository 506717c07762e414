"""The multiply-adds that trainings take, if pruned weights take none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from tickdsl.engine.steps.context import Context
from tickdsl.engine.steps.training_path import sum_over_trainings
from tickdsl.graph.masked_costs import effective_macs
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.plan.steps import Step
from tickdsl.records.store import Result
from tickdsl.training.history import TrainingHistory

#: A step takes the multiply-adds of a forward pass for its outputs, and as many again for the gradients of its inputs
#: and of its weights.
PASSES = 3


def training_macs(step: Step, graph: ModelGraph, structure: Structure, history: TrainingHistory, images: int) -> int:
    """The multiply-adds of the steps of a training on this many images.

    Counted as in Evci et al. 2020, appendix H: a step takes three times those of a forward pass of the network with its
    masks at the time; where the gradients of pruned weights decide what enters (with momentum, in every step), the
    third part is that of the network without masks. Optimiser, losses and tests are not counted.
    """
    steps = history.stop - history.start
    per_step = images / steps if steps else 0.0
    sparse, dense = effective_macs(graph, structure), effective_macs(graph, structure.without_masks())
    total, since = 0.0, history.start
    for moment, left in history.left:
        total += (moment - since) * PASSES * sparse
        sparse, since = effective_macs(graph, structure, left), moment
    total += (history.stop - since) * PASSES * sparse
    match step.args.get("evolve", {}).get("grow"):
        case "gradient":
            total += len(history.changes) * (dense - sparse)
        case "momentum":
            total += steps * (dense - sparse)
    return round(total * per_step)


def path_macs(
    step: Step, own: int, graph: ModelGraph, context: Context, images_of: Callable[[Mapping[str, Any]], Fraction]
) -> int | None:
    """The multiply-adds of a training, and of all trainings that its weights and structure come from, each once.

    None if a result on the way there was removed or damaged since: the training itself needs none but its parents'.

    `images_of` tells the images of a training from the parts of its step. A training up to a moment is part of the
    longer one that stored it on its way, if that is among them.
    """

    def macs(result: Result) -> Fraction | int:
        counted = result.metrics.get("train_macs")
        if counted is not None:
            return int(counted)
        parts = result.data["parts"]  # stored on the way of a longer training, or by an earlier version
        structure = context.structure(parts["parents"].get("structure"), graph)
        return round(PASSES * effective_macs(graph, structure) * images_of(parts))

    try:
        return own + sum_over_trainings(step.parents.values(), context.store.get, macs)
    except KeyError:
        return None
