"""Check that a network, its activations and its training images fit any memory, by the sizes of the traced network."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tickdsl.graph.costs import TRACE_BATCH_SIZE, cost
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.plan.model import Arm
from tickdsl.plurals import plural
from tickdsl.training import catalogue
from tickdsl.training.catalogue.input_shapes import InputShape, NamedShapes, is_tokens, shape_in_words
from tickdsl.training.recipes.recipe import Recipe

#: More memory, in bytes, than a training can have: it runs on a single device.
MAX_BYTES = 256 * 2**30
_BYTES_PER_NUMBER = 4
#: Copies of every parameter in a training step: the weight, its gradient, and what the optimizer keeps.
_COPIES = {"sgd": 3, "adam": 4, "adamw": 4}


def diagnostics(arm: Arm, graph: ModelGraph, shape: InputShape) -> Iterator[Diagnostic]:
    """Yield a finding (TD414) if a training step of the dense network needs more memory than any device has.

    `shape`: of the arm's inputs.
    """
    try:
        recipe = Recipe.from_dict(arm.recipe)
    except ValueError:
        return  # it has a finding of its own
    known = {split: catalogue.known_size(arm.data.name, split, arm.data.options) or 0 for split in ("train", "test")}
    batch = min(recipe.batch, known["train"] or recipe.batch)
    dense = cost(graph, Structure.dense(graph))
    weights = dense.params * _COPIES.get(recipe.optimizer, 4) * _BYTES_PER_NUMBER
    activations = dense.activation_bytes // TRACE_BATCH_SIZE * batch
    values, examples = _values(shape), f"{plural(batch, _kind(shape))} of {_size(shape)}"
    inputs = sum(known.values()) * values
    if weights + activations + inputs <= MAX_BYTES:
        return
    yield Diagnostic(
        "TD414",
        f"training {arm.model.name} takes about {_gib(weights + activations + inputs)}: {_gib(weights)} for its "
        f"{dense.params:,} parameters, {_gib(activations)} for the activations of {examples}, "
        f"and {_gib(inputs)} for the data",
        arm.model.span,
        secondary=(Label(arm.data.span, "the data"),),
        help=f"use a smaller network, smaller images or a smaller batch: at most {_gib(MAX_BYTES)} in all",
    )


def _kind(shape: InputShape) -> str:
    return "sample" if isinstance(shape, NamedShapes) else "sequence" if is_tokens(shape) else "image"


def _size(shape: InputShape) -> str:
    if isinstance(shape, NamedShapes):
        return shape_in_words(shape)
    return plural(shape[0], "token") if is_tokens(shape) else "×".join(map(str, shape[1:]))


def _values(shape: InputShape) -> int:
    """The numbers that an input holds."""
    if isinstance(shape, NamedShapes):
        return sum(math.prod(known.sizes) for known in shape.inputs)
    return math.prod(shape[:1] if is_tokens(shape) else shape)


def _gib(number: int) -> str:
    return f"{number / 2**30:,.1f} GiB"
