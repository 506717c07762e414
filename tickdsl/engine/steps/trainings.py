"""Run `train` steps: prepare their trainings, and store their weights and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.machine.auto_compile import should_compile
from tickdsl.engine.machine.memory_layout import choose_layout
from tickdsl.engine.machine.speed_trial import SpeedTrial
from tickdsl.engine.steps.context import Context, Metrics, required_seed
from tickdsl.engine.steps.judging_features import judged_data
from tickdsl.engine.steps.network_size import structure_metrics
from tickdsl.engine.steps.result_files import STRUCTURE, save_data_description, save_weights
from tickdsl.engine.steps.samples import save_samples
from tickdsl.engine.steps.sparsifiers import make_sparsifier
from tickdsl.engine.steps.tested_images import judged_images, result_figures
from tickdsl.engine.steps.training_cost import path_macs, training_macs
from tickdsl.engine.steps.training_path import sum_over_trainings
from tickdsl.errors import TickdslError
from tickdsl.graph.costs import cost
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact_masks, with_compact_masks
from tickdsl.metrics import energy_counters
from tickdsl.moments import Moment
from tickdsl.plan.steps import Step
from tickdsl.plurals import plural
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.history import EpochReport, TrainingHistory
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch
from tickdsl.training.recipes.retraining import scale_length
from tickdsl.training.rng import stream_seed
from tickdsl.training.step.distillation import Distillation
from tickdsl.training.tasks import CLASSIFY, Task
from tickdsl.training.usage import Usage


@attrs.frozen
class PreparedTraining:
    """A `train` step that is ready to run; `macs_share` is the share of the dense multiply-adds that is left.

    checkpoint: None in a process that only helps another one.
    """

    step: Step
    context: Context
    network: DenseNetwork
    structure: Structure
    trial: SpeedTrial
    macs_share: float
    job: TrainingJob
    checkpoint: Checkpointer | None

    def run(self, folder: Path) -> Metrics:
        """Train, save the weights in `folder` and return the metrics."""
        context = self.context

        def before_step() -> None:
            context.hooks.between_steps(self.pause)
            self.count_usage()

        history = train(**self.job.as_kwargs(), device=context.device, before_step=before_step, choices=context.choices)
        return {} if context.follows else self.save_result(folder, history)

    def pause(self) -> None:
        """Save a checkpoint and stop counting time and energy, until `count_usage` is called."""
        if self.checkpoint is not None:
            self.checkpoint.save_now()
        self.job.usage.pause()

    def count_usage(self) -> None:
        """Count time and energy; call this before every step."""
        self.job.usage.resume()
        self.job.usage.tick(self.context.jobs_at_work)

    def save_result(self, folder: Path, history: TrainingHistory) -> Metrics:
        """Save the weights of a finished training in `folder` and return its metrics.

        Stacked trainings count an equal share of their time and energy each.
        """
        state = self.job.model.state_dict()
        save_weights(folder, state)
        save_data_description(folder, self.job.data)
        save_samples(folder, self.job.model, self.job.data, self.context.device)
        stacked = {"stacked": history.stack_size} if history.stack_size > 1 else {}
        choices = {"sparse": list(history.sparse), "layout": history.layout, "compiled": history.compiled, **stacked}
        energy_used = self.job.usage.energy()
        size = structure_metrics(self.network.graph, self._save_structure(folder, history))
        changes = {"changes": [list(change) for change in history.changes]} if history.changes else {}
        steps = history.stop - history.start
        tested = judged_images(history.scores, self.job.data.test_targets, state, self.job.data.task)
        budget = self._budget(steps)
        macs = training_macs(self.step, self.network.graph, self.structure, history, budget["images"])
        # Where multiply-adds are not stored, the training is an earlier one, without patience.
        images_of = partial(_images, context=self.context, metrics={})
        path = path_macs(self.step, macs, self.network.graph, self.context, images_of)
        counted = {"steps": steps, **budget, "train_macs": macs, "path_macs": path}
        if history.stop < (history.stop if self.job.stop is None else self.job.stop):
            counted["stopped_after"] = history.epochs[-1].epoch
        data = {"data": {"bytes": history.data_bytes, "wait_seconds": round(history.wait_seconds, 6)}}
        trained = {**_history_metrics(history, self.job.data.task), **tested}
        return {**trained, **counted, **data, **choices, **energy_used, **size, **changes}

    def _save_structure(self, folder: Path, history: TrainingHistory) -> Structure:
        """The structure of the trained network, which is saved in `folder` if the training has changed its masks."""
        if history.masks is None:
            return self.structure
        structure = with_compact_masks(self.network.graph, self.structure, history.masks)
        structure.save(folder / STRUCTURE)
        return structure

    def _budget(self, steps: int) -> Metrics:
        """What a training of this many steps took: passes over its data, and images."""
        images = len(self.job.data.train_targets)
        passes = steps / steps_per_epoch(images, self.job.recipe.batch)
        return {"passes": round(passes, 6), "images": round(passes * images)}


def prepare_training(step: Step, context: Context, prefixes: Mapping[str, Step]) -> PreparedTraining:
    """Prepare a `train` step; `prefixes` ({moment: step}) are rewind points whose results it stores on its way.

    Raises TickdslError if nothing is left to train.
    """
    network = context.dense_network(step)
    structure = context.structure(step.parents.get("structure"), network.graph)
    data = judged_data(step, context)
    recipe = _budgeted_recipe(step, context, network, structure)
    module = context.module(network, structure, context.weights(step.parents["weights"], structure, network.graph))
    clock = _StepClock(recipe, len(data.train_targets))
    start, stop = clock.step_at(step.args.get("start", "0it")), clock.step_at(step.args.get("stop", "end"))
    if start >= stop:
        raise TickdslError(
            f"nothing left to train: the training starts at {step.args.get('start')} of {recipe.length}",
            "rewind to an earlier moment",
        )

    def on_saved(done: int) -> None:
        context.store.checkpoint_saved(step.key, done)
        context.hooks.checkpoint_saved(step.key, round(done / clock.per_epoch, 3))

    checkpoint = None
    if not context.follows:
        checkpoint = Checkpointer(
            context.store.scratch(step.key),
            context.settings.checkpoint_seconds,
            warn=lambda message: context.hooks.step_warning(step.key, message),
            on_saved=on_saved,
        )
    trial = SpeedTrial(step, network, data, recipe)
    layout = choose_layout(trial, context.device, context.choices)
    dense_macs = cost(network.graph, Structure.dense(network.graph)).macs
    macs_share = cost(network.graph, structure).macs / dense_macs
    job = TrainingJob(
        model=module,
        data=data,
        recipe=recipe,
        seed=_noise_seed(step),
        start=start,
        stop=stop,
        masks=compact_masks(network.graph, structure),
        checkpoint=checkpoint,
        on_epoch=lambda report: context.hooks.progress(step.key, _progress(report, data.task)),
        step_callbacks={
            clock.step_at(moment): _rewind_point_writer(prefix, context)
            for moment, prefix in prefixes.items()
            if start < clock.step_at(moment) < stop
        },
        distillation=_distillation(step, context, clock),
        sparsifier=make_sparsifier(step, context, network, structure, clock.step_at, stop),
        layout=layout,
        compile=should_compile(
            trial,
            layout,
            stop - start,
            macs_share,
            device=context.device,
            choices=context.choices,
            hooks=context.hooks,
        ),
        measure_every=clock.length(step.args["measure_every"]) if "measure_every" in step.args else 0,
        usage=Usage(energy_counters.open_counters(context.devices)),
        ranks=context.ranks,
    )
    return PreparedTraining(step, context, network, structure, trial, macs_share, job, checkpoint)


def _budgeted_recipe(step: Step, context: Context, network: DenseNetwork, structure: Structure) -> Recipe:
    """The recipe of a training, with the length that its budget allows if it has one."""
    recipe = Recipe.from_dict(step.args["recipe"])
    budget = step.args.get("budget")
    if budget not in ("total", "flops"):
        return recipe
    images = len(context.dataset(step.args["data"], step.seed).train_targets)
    per_epoch = steps_per_epoch(images, recipe.batch)
    if budget == "total":
        passes = Fraction(path_images(step.parents["matched"], context), images)
        return scale_length(recipe, passes * per_epoch / recipe.steps(per_epoch), per_epoch)
    matched = context.structure(step.parents.get("matched"), network.graph)
    ratio = Fraction(int(cost(network.graph, matched).macs), int(cost(network.graph, structure).macs))
    return scale_length(recipe, ratio, per_epoch)


def path_images(key: str, context: Context) -> int:
    """The images of a training and of all trainings that its weights and structure come from, each counted once.

    A training up to a moment is part of the longer one that stored it on its way, if that is among them.
    """
    return sum_over_trainings(
        [key], context.result, lambda result: _images(result.data["parts"], context, result.metrics)
    )


def _images(parts: Mapping[str, Any], context: Context, metrics: Mapping[str, Any]) -> Fraction:
    """The images of one training, by the parts of its step, or if it may have stopped early, by its metrics."""
    args = parts["args"]
    if "stopped_after" in metrics:
        return Fraction(metrics["images"])
    images = len(context.dataset(args["data"], parts["seed"]).train_targets)
    clock = _StepClock(Recipe.from_dict(args["recipe"]), images)
    steps = clock.step_at(args.get("stop", "end")) - clock.step_at(args.get("start", "0it"))
    return Fraction(steps * images, clock.per_epoch)


def _distillation(step: Step, context: Context, clock: _StepClock) -> Distillation | None:
    """The distillation of a training from a teacher: the network of another training on the same data."""
    spec = step.args.get("distill")
    if spec is None:
        return None
    key = step.parents["teacher"]
    teacher_parts = context.step_parts(key)
    network = context.dense_network(attrs.evolve(step, args={**step.args, "model": teacher_parts["args"]["model"]}))
    structure = context.structure(context.structure_of(key), network.graph)
    teacher = context.module(network, structure, context.weights(key, structure, network.graph))
    until = clock.step_at(spec["until"]) if "until" in spec else None
    return Distillation(teacher, spec["temperature"], spec["weight"], until)


def _rewind_point_writer(prefix: Step, context: Context) -> Callable[[Mapping[str, Tensor]], None]:
    """A callback that stores the weights of a training as the result of a rewind point."""

    def write(state: Mapping[str, Tensor]) -> None:
        is_new = prefix.key not in context.store
        if is_new:
            with context.store.writing(prefix.key) as draft:
                save_weights(draft.folder, state)
                draft.finish(context.record(prefix, {}, 0.0))
        context.hooks.rewind_point_saved(prefix.key, is_new)

    return write


class _StepClock:
    """Converts the moments of a recipe to optimiser steps, for a number of training images."""

    def __init__(self, recipe: Recipe, images: int) -> None:
        self.per_epoch = steps_per_epoch(images, recipe.batch)
        self.total = recipe.length.steps(self.per_epoch)
        self.recipe = recipe

    def step_at(self, text: str) -> int:
        """The optimiser step of a moment. Raises TickdslError if it is after the end of the recipe."""
        steps = Moment.parse(text).steps(self.per_epoch, self.total)
        if steps > self.total:
            raise TickdslError(
                f"`to {text}` is after the end of the recipe ({self.recipe.length} = {plural(self.total, 'step')})",
                "rewind to an earlier moment",
            )
        return steps

    def length(self, text: str) -> int:
        """The number of steps of a length, at least 1, which may be longer than the recipe."""
        return max(1, Moment.parse(text).steps(self.per_epoch, self.total))


def _progress(report: EpochReport, task: Task) -> dict[str, Any]:
    primary = task.primary.name
    other = {} if task is CLASSIFY else {"score": report.watched[primary], "metric": primary}
    if report.validation:
        other["measured_on"] = "validation"
    if report.penalty is not None:
        other["penalty"] = report.penalty
    return {
        "epoch": report.epoch,
        "epochs": report.epochs,
        "loss": report.train_loss,
        "accuracy": report.watched.get("accuracy"),
        "lr": report.lr,
        **other,
    }


def _history_metrics(history: TrainingHistory, task: Task) -> Metrics:
    """The metrics of a test at the end, with the best score and its epoch; `train_time` is in seconds.

    The score, the primary metric of the task, has the name `accuracy` for classifiers. With a validation set, the best
    epoch and the losses and scores of the `epochs` are those on it, `validation` are its figures at the end by name,
    and `best_validation` is its score in the best epoch, whose score on the test set is not known. `penalty` holds the
    factor of a growing penalty at the end of each epoch, if there is one.
    """
    epochs, primary = history.epochs, task.primary

    def score(report: EpochReport) -> float:
        return report.watched[primary.name]

    last, best = epochs[-1], max(epochs, key=lambda e: score(e) if primary.higher_is_better else -score(e))
    held_out = {"validation": dict(last.validation), "best_validation": score(best)}
    return {
        **result_figures(task, history.figures),
        "train_loss": last.train_loss,
        **(held_out if last.validation else {f"best_{'accuracy' if task is CLASSIFY else 'score'}": score(best)}),
        "best_epoch": best.epoch,
        "train_time": sum(e.seconds for e in epochs),
        "epochs": [[e.epoch, e.train_loss, e.watched["loss"], score(e), e.lr] for e in epochs],
        **({"penalty": [[e.epoch, e.penalty] for e in epochs]} if last.penalty is not None else {}),
        **({"loss_curve": [list(row) for row in history.loss_curve]} if history.loss_curve else {}),
    }


def _noise_seed(step: Step) -> int:
    """The seed of the data order, augmentation and dropout of a training."""
    roles: list[str | int] = []
    if "round" in step.args:
        roles += ["retrain", step.args["round"]]
    if "noise" in step.args:
        roles += ["noise", step.args["noise"]]
    return stream_seed(required_seed(step), *roles) if roles else required_seed(step)
