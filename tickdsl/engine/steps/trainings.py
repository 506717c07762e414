"""Train steps: what they come to as trainings on this machine, and what is told of them when they are over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from tickdsl.engine.machine.compiling import compiles
from tickdsl.engine.machine.layout import layout
from tickdsl.engine.machine.trial import Trial
from tickdsl.engine.networks import Network
from tickdsl.engine.steps.context import Context, Metrics, describe, record, save_weights, seed_of
from tickdsl.errors import TickdslError
from tickdsl.graph.costs import cost
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact_masks
from tickdsl.metrics import energy
from tickdsl.moments import Moment
from tickdsl.plan.steps import Step
from tickdsl.training.checkpoints import Checkpoints
from tickdsl.training.history import EpochReport, History
from tickdsl.training.job import Assignment
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch
from tickdsl.training.recipes.retraining import at_cost
from tickdsl.training.rng import stream_seed
from tickdsl.training.step.distillation import Lesson


@attrs.frozen
class Training:
    """A train step made ready. `share` is that of the dense network's multiply-adds which is left."""

    step: Step
    context: Context
    found: Network
    structure: Structure
    trial: Trial
    share: float
    given: Assignment
    checkpoint: Checkpoints

    def carry_out(self, folder: Path) -> Metrics:
        """Train, and leave the weights in `folder`."""
        context, meter = self.context, energy.Meter(energy.counter(self.context.device))

        def between() -> None:
            meter.tick()
            context.hooks.between(self.checkpoint.save_now)

        history = train(**self.given.arguments(), device=context.device, between=between, choices=context.choices)
        return self.leave(folder, history, meter)

    def leave(self, folder: Path, history: History, meter: energy.Meter) -> Metrics:
        """Leave the weights of the training that is over in `folder`.

        Of trainings that were stacked each counts for an equal share of their time and energy.
        """
        save_weights(folder, self.given.model.state_dict())
        stacked = {"stacked": history.stacked} if history.stacked > 1 else {}
        chosen = {"sparse": list(history.sparse), "layout": history.layout, "compiled": history.compiled, **stacked}
        counted = meter.told(self.context.settings.jobs * history.stacked)
        used = {"steps": history.stop - history.start, **chosen, **counted}
        return {**_course(history), **used, **describe(self.found.graph, self.structure)}


def prepare(step: Step, context: Context, prefixes: Mapping[str, Step]) -> Training:
    """A train step as a training; `prefixes` ({moment: step}) are rewinding points that it deposits on its way.

    Raises TickdslError where nothing is left to train.
    """
    found = context.network(step)
    structure = context.structure(step.parents.get("structure"), found.graph)
    data = context.dataset(step.args["data"], step.seed)
    recipe = _recipe(step, context, found, structure)
    module = context.module(found, structure, context.weights(step.parents["weights"], structure, found.graph))
    clock = _Clock(recipe, len(data.train_labels))
    start, stop = clock.at(step.args.get("start", "0it")), clock.at(step.args.get("stop", "end"))
    if start >= stop:
        raise TickdslError(
            f"nothing is left to train: the training starts at {step.args.get('start')} of {recipe.length}",
            "rewind to an earlier moment",
        )
    checkpoint = Checkpoints(
        context.store.scratch(step.key),
        context.settings.checkpoint_seconds,
        warn=lambda message: context.hooks.note(step.key, message),
        saved=lambda done: context.hooks.saved(step.key, round(done / clock.per_epoch, 3)),
    )
    trial = Trial(step, found, data, recipe)
    fitting = layout(trial, context.device, context.choices)
    dense, left = (cost(found.graph, each).macs for each in (Structure.dense(found.graph), structure))
    given = Assignment(
        model=module,
        data=data,
        recipe=recipe,
        seed=_noise(step),
        start=start,
        stop=stop,
        masks=compact_masks(found.graph, structure),
        checkpoint=checkpoint,
        on_epoch=lambda report: context.hooks.progress(step.key, _report(report)),
        moments={
            clock.at(moment): _deposit(prefix, context)
            for moment, prefix in prefixes.items()
            if start < clock.at(moment) < stop
        },
        lesson=_lesson(step, context, clock),
        layout=fitting,
        compile=compiles(
            trial,
            fitting,
            stop - start,
            left / dense,
            device=context.device,
            choices=context.choices,
            hooks=context.hooks,
        ),
    )
    return Training(step, context, found, structure, trial, left / dense, given, checkpoint)


def _recipe(step: Step, context: Context, found: Network, structure: Structure) -> Recipe:
    """The recipe of a training, as long as its budget of multiply-adds allows where it has one."""
    recipe = Recipe.from_dict(step.args["recipe"])
    if step.args.get("budget") != "flops":
        return recipe
    matched = context.structure(step.parents.get("matched"), found.graph)
    return at_cost(recipe, Fraction(int(cost(found.graph, matched).macs), int(cost(found.graph, structure).macs)))


def _lesson(step: Step, context: Context, clock: _Clock) -> Lesson | None:
    """Who teaches in a training: the network that another training left, on the same data."""
    spec = step.args.get("distill")
    if spec is None:
        return None
    key = step.parents["teacher"]
    theirs = context.parts(key)
    found = context.network(attrs.evolve(step, args={**step.args, "model": theirs["args"]["model"]}))
    structure = context.structure(theirs["parents"].get("structure"), found.graph)
    teacher = context.module(found, structure, context.weights(key, structure, found.graph))
    until = clock.at(spec["until"]) if "until" in spec else None
    return Lesson(teacher, spec["temperature"], spec["weight"], until)


def _deposit(prefix: Step, context: Context) -> Callable[[Mapping[str, Tensor]], None]:
    """What a training does when it passes a rewinding point: leave the weights there as that step's result."""

    def write(state: Mapping[str, Tensor]) -> None:
        if prefix.key not in context.store:
            with context.store.writing(prefix.key) as draft:
                save_weights(draft.folder, state)
                draft.finish(record(prefix, {}, 0.0, context))
        context.hooks.deposited(prefix.key)

    return write


class _Clock:
    """A recipe's moments as optimiser steps on a given number of pictures."""

    def __init__(self, recipe: Recipe, pictures: int) -> None:
        self.per_epoch = steps_per_epoch(pictures, recipe.batch)
        self.total = recipe.length.steps(self.per_epoch)
        self.recipe = recipe

    def at(self, text: str) -> int:
        steps = Moment.parse(text).steps(self.per_epoch, self.total)
        if steps > self.total:
            raise TickdslError(
                f"`to {text}` lies after the recipe's end ({self.recipe.length} = {self.total} steps)",
                "rewind to an earlier moment",
            )
        return steps


def _report(report: EpochReport) -> dict[str, Any]:
    return {
        "epoch": report.epoch,
        "epochs": report.epochs,
        "loss": report.train_loss,
        "accuracy": report.test_accuracy,
        "lr": report.lr,
    }


def _course(history: History) -> Metrics:
    """The last epoch's figures are the training's; the best are kept beside them. `train_time` in seconds."""
    epochs = history.epochs
    last, best = epochs[-1], max(epochs, key=lambda e: e.test_accuracy)
    return {
        "accuracy": last.test_accuracy,
        "loss": last.test_loss,
        "train_loss": last.train_loss,
        "best_accuracy": best.test_accuracy,
        "best_epoch": best.epoch,
        "train_time": sum(e.seconds for e in epochs) / history.stacked,
        "epochs": [[e.epoch, e.train_loss, e.test_loss, e.test_accuracy, e.lr] for e in epochs],
    }


def _noise(step: Step) -> int:
    """The seed of a training's data order, alterations and dropout."""
    noise = step.args.get("noise", 0)
    return stream_seed(seed_of(step), "noise", noise) if noise else seed_of(step)
