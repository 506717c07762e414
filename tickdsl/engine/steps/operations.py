"""A step to work: one function per operation. Reads its parents from the store, writes its result there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from tickdsl.engine.steps import measuring, trainings
from tickdsl.engine.steps.context import STRUCTURE, Context, Metrics, describe, save_weights, seed_of
from tickdsl.engine.steps.early_bird import settle
from tickdsl.engine.steps.scoring import subject
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact, compact_masks
from tickdsl.plan.code import expect_code
from tickdsl.plan.steps import Step
from tickdsl.pruning.overlap import overlap, random_structure
from tickdsl.pruning.selection import prune
from tickdsl.training.catalogue import shaping
from tickdsl.training.evaluation import evaluate
from tickdsl.training.models import create, head, reinitialise
from tickdsl.training.rng import generator, stream_seed

Operation = Callable[[Step, Context, Path, Mapping[str, Step]], Metrics]


def perform(step: Step, context: Context, prefixes: Mapping[str, Step]) -> Metrics:
    """Do a step's work and store its result; gives back its metrics.

    `prefixes` ({moment: step}) are rewinding points that a training deposits on its way.
    """
    began = time.monotonic()
    expect_code(step.args)
    work = _OPERATIONS[step.operation]
    return context.keep(step, lambda folder: work(step, context, folder, prefixes), began)


def _init(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    found = context.network(step)
    structure = context.structure(step.parents.get("structure"), found.graph)
    role = step.args.get("role", "init")
    model = step.args["model"]
    # A network whose initialisation is its constructor's cannot be drawn anew at its smaller size: there, fresh
    # weights are a slice of a dense network of another seed.
    seed = seed_of(step) if role == "init" else stream_seed(seed_of(step), role)
    # Only the network that is pruned begins with weights from elsewhere: its rivals' are fresh.
    options = model["options"] if role == "init" else shaping(model["options"])
    fresh = create(model["name"], classes=found.classes, shape=found.shape, seed=seed, options=options)
    module = compact(fresh, found.graph, structure)
    if role != "init":
        reinitialise(module, seed=seed_of(step), role=role, name=model["name"])
    save_weights(folder, module.state_dict())
    return {}


def _train(step: Step, context: Context, folder: Path, prefixes: Mapping[str, Step]) -> Metrics:
    return trainings.prepare(step, context, prefixes).carry_out(folder)


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
    drawn = random_structure(found.graph, given, generator(seed_of(step), "random-structure"))
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
