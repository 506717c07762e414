"""Search what each layer loses: the step of a prune with the scope `searched`, and its evaluations.

Every evaluation is stored as a result of its own as soon as it is made, so that an interrupted search goes on from
there, and other searches on the same network take what they have in common. A candidate is evaluated without further
training; the statistics of its batch norm are computed anew, since those of the whole network make pruned ones look
worse than they are (EagleEye, Li et al. 2020).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tickdsl.engine.steps.context import Context, Metrics, required_seed
from tickdsl.engine.steps.fixed_noise import fixed_noise
from tickdsl.engine.steps.scoring_context import scoring_of_prune
from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.plan.search_steps import candidate_step
from tickdsl.plan.steps import Step
from tickdsl.pruning.allocation_search import Judgement, search_allocation
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.search_budget import evaluations_of, too_few
from tickdsl.pruning.search_space import Counts, SearchSpace, parts_in_order, search_space
from tickdsl.training.batch_statistics import recompute_statistics
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.sample import sample_batches
from tickdsl.training.evaluation import evaluate
from tickdsl.training.rng import generator

#: The training images that statistics of batch norm are computed on, and how many of them make a batch.
_STATISTICS_IMAGES, _STATISTICS_BATCH = 500, 250


def search_and_prune(
    step: Step, context: Context, scoring: ScoringContext, matched: Structure | None
) -> tuple[Structure, Metrics]:
    """The structure that a search finds, and what it says of the search.

    Raises TickdslError if the amount is out of reach or removes nothing, if no samples are held out for validation, or
    if there are too few evaluations; Stopped between two evaluations if the run was stopped.
    """
    space = search_space(scoring, step.args, matched)
    requested = step.args.get("evaluations")
    if (reason := too_few(space.sizes, requested)) is not None:
        raise TickdslError(reason, "use more `evaluations=`, or leave it out")
    if not any(space.cut(space.scores)):
        raise TickdslError(
            "this round would remove nothing: its amount is gone already", "use a higher target, or fewer rounds"
        )
    evaluator = _Evaluator(step, context, scoring, space, evaluations_of(space.sizes, requested))
    found = search_allocation(space, evaluator, requested)
    named = zip(space.names, found.counts, space.sizes, strict=True)
    return space.structure(found.counts), {
        "search_evaluations": evaluator.made + evaluator.reused,
        "search_reused": evaluator.reused,
        "search_score": evaluator.figure(found.counts),
        **{f"search_{name}": evaluator.figure(counts) for name, counts in found.alternatives.items()},
        "search_removed": {name: [count, size] for name, count, size in named},
    }


class _Evaluator:
    """Judges candidates on validation data, and stores what it finds; `reused` counts what was stored before."""

    def __init__(self, step: Step, context: Context, scoring: ScoringContext, space: SearchSpace, total: int) -> None:
        self._step, self._context, self._scoring, self._space, self._total = step, context, scoring, space, total
        self.data = _data_to_judge(step, context)
        self.made = self.reused = 0
        self._figures: dict[Counts, float] = {}

    def __call__(self, counts: Counts) -> Judgement:
        """Judge the network whose parts have lost so many entries."""
        self._context.hooks.between_steps(lambda: None)
        candidate = candidate_step(self._step, dict(zip(self._space.names, counts, strict=True)))
        metrics = self._of_first(self._context.store.metrics(candidate.key))
        if metrics is None:
            metrics = self._of_first(self._measure(candidate, self._space.structure(counts)))
            self.made += 1
        else:
            self.reused += 1
        self._context.hooks.search_progress(self._step.key, self.made + self.reused, self._total)
        figures = _finite(metrics["validation"])
        self._figures[counts] = figures[self.data.task.primary.name]
        return Judgement(
            self._figures[counts] if self.data.task.primary.higher_is_better else -self._figures[counts],
            figures["loss"],
        )

    def _measure(self, candidate: Step, structure: Structure) -> Metrics:
        """The metrics of a candidate that was not stored, which the process that does not follow stores."""
        if self._context.follows:
            return _measure(candidate, self._context, self._scoring, structure)
        start_time = time.monotonic() - self._context.paused_seconds
        return self._context.store_result(
            candidate, lambda folder: _measure(candidate, self._context, self._scoring, structure), start_time
        )

    def _of_first(self, metrics: Mapping[str, Any] | None) -> Any:
        """The metrics that the first of the processes which search together has, so that all take the same way."""
        return metrics if self._context.ranks is None else self._context.ranks.of_first(metrics)

    def figure(self, counts: Counts) -> float:
        """The primary metric of a candidate that was judged."""
        return self._figures[counts]


def evaluate_candidate(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """Evaluate a candidate outside its search: the step of an evaluation."""
    scoring = scoring_of_prune(step, context)
    space = parts_in_order(scoring, step.args)
    structure = space.structure(tuple(step.args["removed"].get(name, 0) for name in space.names))
    return _measure(step, context, scoring, structure)


def _measure(candidate: Step, context: Context, scoring: ScoringContext, structure: Structure) -> Metrics:
    """The figures of a candidate on the validation data."""
    data = _data_to_judge(candidate, context)
    assert data.validation_set is not None
    with fixed_noise(candidate, context, "candidate"):
        module = scoring.network(structure)
        sample = sample_batches(
            data,
            generator(required_seed(candidate), "candidate"),
            total=_STATISTICS_IMAGES,
            batch=_STATISTICS_BATCH,
            device=context.device,
        )
        recompute_statistics(module, (images for images, _ in sample))
        preprocess = data.preprocess(context.device)
        result = evaluate(
            module, *data.validation_set, preprocess=preprocess, device=context.device, task=data.task,
            ranks=context.ranks,
        )  # fmt: skip
    return {"validation": dict(result.figures)}


def _data_to_judge(step: Step, context: Context) -> Dataset:
    """The data of a step, with a validation set. Raises TickdslError if it has none."""
    data = context.dataset(step.args["data"], step.seed)
    if data.validation_set is None:
        message = f"a search looks at validation data, and {step.args['data']['name']} has none"
        raise TickdslError(message, "add `validation=10%` to `data`")
    return data


def _finite(figures: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a result, where those that were not finite are null, which is not a number."""
    return {name: math.nan if value is None else float(value) for name, value in figures.items()}
