"""Check the plug-ins of a plan by importing and trying them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tickdsl.engine.graph_cache import image_shape_and_classes, task_of
from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.plan.model import Arm, Options, Plan, Retrain
from tickdsl.plugins import call_name, is_plugin, load_plugin, require_plugin
from tickdsl.pruning.scope import GROUP_KINDS, LAYERS
from tickdsl.records.canonical import canonical_json
from tickdsl.training.catalogue import architecture_options
from tickdsl.training.catalogue.input_shapes import NamedShapes, is_tokens
from tickdsl.training.recipes.augmentations import is_plain
from tickdsl.training.recipes.recipe import Recipe

#: Steps per epoch to try a schedule with if the size of the data is unknown.
_NOMINAL_EPOCH = 10


def diagnostics(arm: Arm, per_epoch: int | None, data: Path) -> Iterator[Diagnostic]:
    """Yield findings about criteria and schedules of an arm that cannot be used.

    Plug-in networks and data sets are tried elsewhere, when the arm's network is traced.
    """
    for group in arm.rounds:
        if is_plugin("criterion", group.prune.by):
            span = group.prune.by_span or group.prune.span
            yield from _errors_of(partial(_try_criterion, group.prune.by, group.prune.unit, arm, data), span)
    transferred = arm.transfer.tail if arm.transfer is not None else ()
    tails = [*arm.tails, *transferred]
    retrainings = [(tail.recipe, tail.span) for tail in tails if isinstance(tail, Retrain)]
    before = [(arm.fork.recipe, arm.fork.recipe_span)] if arm.fork is not None else []
    for fields, span in [(arm.recipe, arm.recipe_span), *before, *retrainings]:
        if is_plugin("schedule", str(fields.get("schedule", ""))):
            yield from _errors_of(partial(_try_schedule, fields, per_epoch or _NOMINAL_EPOCH), span)
        if is_plugin("loss", call_name(str(fields.get("loss") or ""))):
            yield from _errors_of(partial(_try_loss, str(fields["loss"])), span)
        others = [text for text in fields.get("augment", ()) if not is_plain(text)]
        if others:
            place = arm.recipe_places.get("augment") if fields is arm.recipe and arm.recipe_places else None
            where = span if place is None else place.span
            yield from _errors_of(partial(_try_augmentations, others, arm, data), where, "TD469")
        if is_plugin("optimiser", call_name(str(fields.get("optimizer", "")))):
            yield from _errors_of(partial(_try_optimiser, fields, arm, data), span)


def metric_diagnostics(plan: Plan) -> Iterator[Diagnostic]:
    """Yield findings about metrics of a plan that cannot be imported."""
    for name in plan.metrics:
        if is_plugin("metric", name):
            yield from _errors_of(partial(_try_metric, name), plan.report_span or plan.arms[0].span)


def _try_criterion(name: str, unit: str, arm: Arm, data: Path) -> None:
    """Import a criterion and, if it only looks at weights, let it rank the initial network."""
    from tickdsl.engine.dense_networks import dense_network
    from tickdsl.pruning.criteria import ScoringContext, get_criterion
    from tickdsl.pruning.criteria.plugin import NonFiniteScoresError

    criterion = get_criterion(name)
    if criterion.runs_network or "training" in criterion.needs:
        return
    shape, classes = image_shape_and_classes(arm.data, data)
    dense = dense_network(arm.model.name, canonical_json(architecture_options(arm.model.options)), classes, shape)
    scoring = ScoringContext(dense.graph, Structure.dense(dense.graph), dense.module.state_dict())
    # Trained weights may have finite scores even if the initial ones do not.
    with contextlib.suppress(NonFiniteScoresError):
        if unit == "weights":
            criterion.weights(scoring, list(dense.graph.weights))
        elif unit in LAYERS:
            criterion.layers(scoring, dense.graph.layers)
        else:
            free = [group for group in dense.graph.channels if group.kind == GROUP_KINDS[unit] and not group.reason]
            criterion.channels(scoring, free)


def _try_schedule(recipe: Options, per_epoch: int) -> None:
    with contextlib.suppress(ValueError):  # a wrong recipe has its own finding
        Recipe.from_dict(recipe).learning_rates(per_epoch)


def _try_loss(text: str) -> None:
    from tickdsl.training.step.losses import own_loss

    own_loss(text)


def _try_augmentations(texts: list[str], arm: Arm, data: Path) -> None:
    """Change an image of the size of the arm's, and its mask if it has one."""
    import torch

    from tickdsl.training.data.transforms import ImageTransforms
    from tickdsl.training.tasks import find_task

    shape, _ = image_shape_and_classes(arm.data, data)
    if isinstance(shape, NamedShapes):
        if shape.augmented is None:
            return  # which has its own finding
        shape = shape[shape.augmented]
    if is_tokens(shape):
        return  # tokens are not augmented at all, which has its own finding
    images = torch.randint(0, 256, (1, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    masks = find_task(task_of(arm.model, arm.data, data)).spatial_targets
    ImageTransforms(texts).require_fit(images, masks=masks)


def _try_optimiser(recipe: Options, arm: Arm, data: Path) -> None:
    """Take a few steps on copies of some weights of the initial network."""
    from tickdsl.engine.dense_networks import dense_network
    from tickdsl.training.step import own_optimisers

    shape, classes = image_shape_and_classes(arm.data, data)
    dense = dense_network(arm.model.name, canonical_json(architecture_options(arm.model.options)), classes, shape)
    with contextlib.suppress(ValueError):  # a wrong recipe has its own finding
        own_optimisers.build([p for p in dense.module.parameters() if p.requires_grad], Recipe.from_dict(recipe))


def _try_metric(name: str) -> None:
    load_plugin(require_plugin("metric", name))


def _errors_of(attempt: Callable[[], None], span: Any, code: str = "TD118") -> Iterator[Diagnostic]:
    try:
        attempt()
    except TickdslError as error:
        yield plugin_diagnostic(error, span, code)


def plugin_diagnostic(error: TickdslError, span: Any, code: str = "TD118") -> Diagnostic:
    """The finding for an error of a plug-in."""
    return Diagnostic(code, error.message, span, help=error.hint)
