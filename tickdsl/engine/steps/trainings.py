"""Train steps: what they come to as trainings on this machine, and what is told of them when they are over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.machine.auto_compile import should_compile
from tickdsl.engine.machine.memory_layout import layout
from tickdsl.engine.machine.speed_trial import SpeedTrial
from tickdsl.engine.steps.context import Context, Metrics, required_seed, result_record, save_weights, structure_metrics
from tickdsl.errors import TickdslError
from tickdsl.graph.costs import cost
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact_masks
from tickdsl.metrics import energy_counters
from tickdsl.metrics.energy_meter import EnergyMeter
from tickdsl.moments import Moment
from tickdsl.plan.steps import Step
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.history import EpochReport, TrainingHistory
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch
from tickdsl.training.recipes.retraining import scale_length
from tickdsl.training.rng import stream_seed
from tickdsl.training.step.distillation import Distillation


@attrs.frozen
class PreparedTraining:
    """A train step made ready. `macs_share` is that of the dense network's multiply-adds which is left."""

    step: Step
    context: Context
    network: DenseNetwork
    structure: Structure
    trial: SpeedTrial
    macs_share: float
    job: TrainingJob
    checkpoint: Checkpointer

    def run(self, folder: Path) -> Metrics:
        """Train, and leave the weights in `folder`."""
        context, meter = self.context, EnergyMeter(energy_counters.open_counter(self.context.device))

        def between() -> None:
            meter.tick()
            context.hooks.between_steps(self.checkpoint.save_now)

        history = train(**self.job.as_kwargs(), device=context.device, before_step=between, choices=context.choices)
        return self.save_result(folder, history, meter)

    def save_result(self, folder: Path, history: TrainingHistory, meter: EnergyMeter) -> Metrics:
        """Leave the weights of the training that is over in `folder`.

        Of trainings that were stacked each counts for an equal share of their time and energy.
        """
        save_weights(folder, self.job.model.state_dict())
        stacked = {"stacked": history.stack_size} if history.stack_size > 1 else {}
        chosen = {"sparse": list(history.sparse), "layout": history.layout, "compiled": history.compiled, **stacked}
        counted = meter.summary(self.context.settings.jobs * history.stack_size)
        used = {"steps": history.stop - history.start, **chosen, **counted}
        return {**_history_metrics(history), **used, **structure_metrics(self.network.graph, self.structure)}


def prepare_training(step: Step, context: Context, prefixes: Mapping[str, Step]) -> PreparedTraining:
    """A train step as a training; `prefixes` ({moment: step}) are rewinding points that it deposits on its way.

    Raises TickdslError where nothing is left to train.
    """
    network = context.dense_network(step)
    structure = context.structure(step.parents.get("structure"), network.graph)
    data = context.dataset(step.args["data"], step.seed)
    recipe = _budgeted_recipe(step, context, network, structure)
    module = context.module(network, structure, context.weights(step.parents["weights"], structure, network.graph))
    clock = _StepClock(recipe, len(data.train_labels))
    start, stop = clock.step_at(step.args.get("start", "0it")), clock.step_at(step.args.get("stop", "end"))
    if start >= stop:
        raise TickdslError(
            f"nothing is left to train: the training starts at {step.args.get('start')} of {recipe.length}",
            "rewind to an earlier moment",
        )
    checkpoint = Checkpointer(
        context.store.scratch(step.key),
        context.settings.checkpoint_seconds,
        warn=lambda message: context.hooks.step_warning(step.key, message),
        on_saved=lambda done: context.hooks.checkpoint_saved(step.key, round(done / clock.per_epoch, 3)),
    )
    trial = SpeedTrial(step, network, data, recipe)
    layout_name = layout(trial, context.device, context.choices)
    dense_macs, macs_left = (
        cost(network.graph, subject).macs for subject in (Structure.dense(network.graph), structure)
    )
    job = TrainingJob(
        model=module,
        data=data,
        recipe=recipe,
        seed=_noise_seed(step),
        start=start,
        stop=stop,
        masks=compact_masks(network.graph, structure),
        checkpoint=checkpoint,
        on_epoch=lambda report: context.hooks.progress(step.key, _progress(report)),
        step_callbacks={
            clock.step_at(moment): _rewind_point_writer(prefix, context)
            for moment, prefix in prefixes.items()
            if start < clock.step_at(moment) < stop
        },
        distillation=_distillation(step, context, clock),
        layout=layout_name,
        compile=should_compile(
            trial,
            layout_name,
            stop - start,
            macs_left / dense_macs,
            device=context.device,
            choices=context.choices,
            hooks=context.hooks,
        ),
    )
    return PreparedTraining(step, context, network, structure, trial, macs_left / dense_macs, job, checkpoint)


def _budgeted_recipe(step: Step, context: Context, network: DenseNetwork, structure: Structure) -> Recipe:
    """The recipe of a training, as long as its budget of multiply-adds allows where it has one."""
    recipe = Recipe.from_dict(step.args["recipe"])
    if step.args.get("budget") != "flops":
        return recipe
    matched = context.structure(step.parents.get("matched"), network.graph)
    return scale_length(
        recipe, Fraction(int(cost(network.graph, matched).macs), int(cost(network.graph, structure).macs))
    )


def _distillation(step: Step, context: Context, clock: _StepClock) -> Distillation | None:
    """Who teaches in a training: the network that another training left, on the same data."""
    spec = step.args.get("distill")
    if spec is None:
        return None
    key = step.parents["teacher"]
    teacher_parts = context.step_parts(key)
    network = context.dense_network(attrs.evolve(step, args={**step.args, "model": teacher_parts["args"]["model"]}))
    structure = context.structure(teacher_parts["parents"].get("structure"), network.graph)
    teacher = context.module(network, structure, context.weights(key, structure, network.graph))
    until = clock.step_at(spec["until"]) if "until" in spec else None
    return Distillation(teacher, spec["temperature"], spec["weight"], until)


def _rewind_point_writer(prefix: Step, context: Context) -> Callable[[Mapping[str, Tensor]], None]:
    """What a training does when it passes a rewinding point: leave the weights there as that step's result."""

    def write(state: Mapping[str, Tensor]) -> None:
        if prefix.key not in context.store:
            with context.store.writing(prefix.key) as draft:
                save_weights(draft.folder, state)
                draft.finish(result_record(prefix, {}, 0.0, context))
        context.hooks.rewind_point_saved(prefix.key)

    return write


class _StepClock:
    """A recipe's moments as optimiser steps on a given number of pictures."""

    def __init__(self, recipe: Recipe, pictures: int) -> None:
        self.per_epoch = steps_per_epoch(pictures, recipe.batch)
        self.total = recipe.length.steps(self.per_epoch)
        self.recipe = recipe

    def step_at(self, text: str) -> int:
        steps = Moment.parse(text).steps(self.per_epoch, self.total)
        if steps > self.total:
            raise TickdslError(
                f"`to {text}` lies after the recipe's end ({self.recipe.length} = {self.total} steps)",
                "rewind to an earlier moment",
            )
        return steps


def _progress(report: EpochReport) -> dict[str, Any]:
    return {
        "epoch": report.epoch,
        "epochs": report.epochs,
        "loss": report.train_loss,
        "accuracy": report.test_accuracy,
        "lr": report.lr,
    }


def _history_metrics(history: TrainingHistory) -> Metrics:
    """The last epoch's figures are the training's; the best are kept beside them. `train_time` in seconds."""
    epochs = history.epochs
    last, best = epochs[-1], max(epochs, key=lambda e: e.test_accuracy)
    return {
        "accuracy": last.test_accuracy,
        "loss": last.test_loss,
        "train_loss": last.train_loss,
        "best_accuracy": best.test_accuracy,
        "best_epoch": best.epoch,
        "train_time": sum(e.seconds for e in epochs) / history.stack_size,
        "epochs": [[e.epoch, e.train_loss, e.test_loss, e.test_accuracy, e.lr] for e in epochs],
    }


def _noise_seed(step: Step) -> int:
    """The seed of a training's data order, alterations and dropout."""
    noise = step.args.get("noise", 0)
    return stream_seed(required_seed(step), "noise", noise) if noise else required_seed(step)
