"""A step to work: one function per operation. Reads its parents from the store, writes its result there."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from tickdsl import __version__
from tickdsl.errors import TickdslError
from tickdsl.graph.cost import cost
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery import compact, compact_masks
from tickdsl.measures import energy
from tickdsl.moments import Moment
from tickdsl.plan.code import expect_code
from tickdsl.plan.steps import Step
from tickdsl.records.process import host_name
from tickdsl.run import measuring
from tickdsl.run.compiling import compiles
from tickdsl.run.context import STRUCTURE, Context, describe, save_weights
from tickdsl.run.layout import layout
from tickdsl.run.networks import Network
from tickdsl.run.scoring import subject
from tickdsl.run.settling import settle
from tickdsl.run.trial import Trial
from tickdsl.tickets.overlap import overlap, random_structure
from tickdsl.tickets.select import prune
from tickdsl.training import recipes
from tickdsl.training.catalogue import shaping
from tickdsl.training.checkpoints import Checkpoints
from tickdsl.training.distillation import Lesson
from tickdsl.training.evaluate import evaluate
from tickdsl.training.loop import train
from tickdsl.training.models import create, head, reinitialise
from tickdsl.training.reports import EpochReport
from tickdsl.training.retraining import at_cost
from tickdsl.training.streams import generator, stream_seed

Metrics = dict[str, Any]
Operation = Callable[[Step, Context, Path, Mapping[str, Step]], Metrics]


def perform(step: Step, context: Context, prefixes: Mapping[str, Step]) -> Metrics:
    """Do a step's work and store its result; gives back its metrics.

    `prefixes` ({moment: step}) are rewinding points that a training deposits on its way.
    """
    began = time.monotonic()
    expect_code(step.args)
    with context.store.writing(step.key) as draft:
        metrics = _OPERATIONS[step.operation](step, context, draft.folder, prefixes)
        draft.finish(_record(step, metrics, time.monotonic() - began, context))
    return metrics


def _record(step: Step, metrics: Metrics, seconds: float, context: Context) -> dict[str, Any]:
    return {
        "operation": step.operation,
        "parts": step.parts,
        "metrics": metrics,
        "seconds": round(seconds, 3),
        "made": {
            "tickdsl": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "host": host_name(),
            "device": str(context.device),
            "threads": context.settings.threads,
        },
    }


def _init(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    found = context.network(step)
    structure = context.structure(step.parents.get("structure"), found.graph)
    role = step.args.get("role", "init")
    model = step.args["model"]
    # A network whose initialisation is its constructor's cannot be drawn anew at its smaller size: there, fresh
    # weights are a slice of a dense network of another seed.
    seed = _seed(step) if role == "init" else stream_seed(_seed(step), role)
    # Only the network that is pruned begins with weights from elsewhere: its rivals' are fresh.
    options = model["options"] if role == "init" else shaping(model["options"])
    fresh = create(model["name"], classes=found.classes, shape=found.shape, seed=seed, options=options)
    module = compact(fresh, found.graph, structure)
    if role != "init":
        reinitialise(module, seed=_seed(step), role=role, name=model["name"])
    save_weights(folder, module.state_dict())
    return {}


def _train(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
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
    checkpoints = Checkpoints(
        context.store.scratch(step.key),
        context.settings.checkpoint_seconds,
        warn=context.hooks.warn,
        saved=lambda done: context.hooks.saved(round(done / clock.per_epoch, 3)),
    )
    trial = Trial(step, found, data, recipe)
    fitting = layout(trial, context)
    dense, left = (cost(found.graph, each).macs for each in (Structure.dense(found.graph), structure))
    meter = energy.Meter(energy.counter(context.device))

    def between() -> None:
        meter.tick()
        context.hooks.between(checkpoints.save_now)

    history = train(
        module,
        data,
        recipe,
        seed=_noise(step),
        start=start,
        stop=stop,
        masks=compact_masks(found.graph, structure),
        device=context.device,
        checkpoint=checkpoints,
        on_epoch=lambda report: context.hooks.progress(_report(report)),
        between=between,
        moments={
            clock.at(moment): _deposit(prefix, context)
            for moment, prefix in prefixes.items()
            if start < clock.at(moment) < stop
        },
        lesson=_lesson(step, context, clock),
        choices=context.choices,
        layout=fitting,
        compile=compiles(trial, context, fitting, stop - start, left / dense),
    )
    save_weights(folder, module.state_dict())
    chosen = {"sparse": list(history.sparse), "layout": history.layout, "compiled": history.compiled}
    used = {"steps": history.stop - history.start, **chosen, **meter.told(context.settings.jobs)}
    return {**_course(history.epochs), **used, **describe(found.graph, structure)}


def _recipe(step: Step, context: Context, found: Network, structure: Structure) -> recipes.Recipe:
    """The recipe of a training, as long as its budget of multiply-adds allows where it has one."""
    recipe = recipes.Recipe.from_dict(step.args["recipe"])
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
                draft.finish(_record(prefix, {}, 0.0, context))
        context.hooks.deposited(prefix.key)

    return write


class _Clock:
    """A recipe's moments as optimiser steps on a given number of pictures."""

    def __init__(self, recipe: recipes.Recipe, pictures: int) -> None:
        self.per_epoch = recipes.steps_per_epoch(pictures, recipe.batch)
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


def _course(epochs: tuple[EpochReport, ...]) -> Metrics:
    """The last epoch's figures are the training's; the best are kept beside them. `train_time` in seconds."""
    last, best = epochs[-1], max(epochs, key=lambda e: e.test_accuracy)
    return {
        "accuracy": last.test_accuracy,
        "loss": last.test_loss,
        "train_loss": last.train_loss,
        "best_accuracy": best.test_accuracy,
        "best_epoch": best.epoch,
        "train_time": sum(e.seconds for e in epochs),
        "epochs": [[e.epoch, e.train_loss, e.test_loss, e.test_accuracy, e.lr] for e in epochs],
    }


def _prune(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    found = context.network(step)
    structure = context.structure(step.parents.get("structure"), found.graph)
    if "settles" in step.args:
        choice = settle(step, context, found, structure)
        save_weights(folder, choice.weights)
        told = {"settled": choice.settled, "epoch": choice.epoch, "distances": choice.distances}
        return {**_structure(choice.structure, context, step, folder), **told}
    state = context.weights(step.parents["weights"], structure, found.graph)
    matched = context.structure(step.parents["matched"], found.graph) if "matched" in step.parents else None
    pruned = prune(subject(step, context, found, structure, state), step.args, matched)
    return _structure(pruned, context, step, folder)


def _overlap(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    found = context.network(step)
    roles = sorted(step.parents, key=lambda role: int(role.split()[-1]))
    parts = [context.structure(step.parents[role], found.graph) for role in roles]
    return _structure(overlap(found.graph, parts, step.args["at_least"]), context, step, folder)


def _random_structure(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    found = context.network(step)
    given = context.structure(step.parents["structure"], found.graph)
    drawn = random_structure(found.graph, given, generator(_seed(step), "random-structure"))
    return _structure(drawn, context, step, folder)


def _structure(structure: Structure, context: Context, step: Step, folder: Path) -> Metrics:
    structure.save(folder / STRUCTURE)
    return describe(context.network(step).graph, structure)


def _transfer(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    """The weights of a network on other data, with the classifier of the network `head` on these."""
    found = context.network(step)
    structure = context.structure(step.parents.get("structure"), found.graph)
    body = context.weights(step.parents["weights"], structure, found.graph)
    fresh = context.weights(step.parents["head"], structure, found.graph)
    path = head(found.module)
    save_weights(folder, {name: fresh[name] if name.startswith(f"{path}.") else body[name] for name in fresh})
    return {}


def _evaluate(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    found = context.network(step)
    structure = context.structure(step.parents.get("structure"), found.graph)
    data = context.dataset(step.args["data"], step.seed)
    state = context.weights(step.parents["weights"], structure, found.graph)
    module = context.module(found, structure, state).to(context.device)
    masks = compact_masks(found.graph, structure)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in masks:
                parameter.mul_(masks[name].to(parameter.device))
    result = evaluate(module, data.test_images, data.test_labels, mean=data.mean, std=data.std, device=context.device)
    save_weights(folder, module.state_dict())
    return {"accuracy": result.accuracy, "loss": result.loss, **describe(found.graph, structure)}


def _noise(step: Step) -> int:
    """The seed of a training's data order, alterations and dropout."""
    noise = step.args.get("noise", 0)
    return stream_seed(_seed(step), "noise", noise) if noise else _seed(step)


def _seed(step: Step) -> int:
    if step.seed is None:
        raise ValueError(f"the {step.operation} step needs a seed")
    return step.seed


_OPERATIONS: dict[str, Operation] = {
    "init": _init,
    "train": _train,
    "prune": _prune,
    "overlap": _overlap,
    "random-structure": _random_structure,
    "evaluate": _evaluate,
    "transfer": _transfer,
    "robustness": measuring.robustness,
    "latency": measuring.latency,
    "memory": measuring.memory,
    "barrier": measuring.barrier,
    "metric": measuring.own,
}
