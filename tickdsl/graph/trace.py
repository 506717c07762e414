"""From a network to its model graph: one evaluation without data, one union-find."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tickdsl.errors import TickdslError
from tickdsl.graph.analysis import Analysis
from tickdsl.graph.assemble import assemble
from tickdsl.graph.labels import Atoms, Storage, Value
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.record import Recorder, Recording, copy_without_data, modules_followed, set_mode, without_data


class TraceError(TickdslError):
    """The network could not be run on the example inputs."""


def trace(model: nn.Module, example_inputs: Any) -> ModelGraph:
    """The model graph of a network.

    `example_inputs` is a tensor, a tuple of positional arguments, or a dictionary of keyword arguments; only shapes
    and types matter. The network is not changed and not trained; a copy without data runs, once as in evaluation
    and once as in training (auxiliary heads). Raises TraceError where the network does not run in evaluation.
    """
    bare = copy_without_data(model)
    analysis = Analysis(Atoms())
    for name, tensor in itertools.chain(bare.named_parameters(), bare.named_buffers()):
        analysis.add_parameter(name, tensor)
    inputs = describe(example_inputs)
    evaluation = Recording()
    try:
        _run(bare, inputs, analysis, evaluation, train=False)
    except Exception as error:
        raise TraceError(
            f"{type(model).__name__} does not run on the example inputs: {type(error).__name__}: {error}",
            "check their shapes; the network runs on tensors without data, so its code must not depend on values",
        ) from error
    training = Recording()
    try:
        _run(bare, inputs, analysis, training, train=True)
    except Exception as error:  # a network's own code may raise anything, for want of targets for instance
        training = Recording(unknown=[f"training mode: {type(error).__name__}: {error}"])
    return assemble(model, analysis, evaluation, training, inputs)


def _run(bare: nn.Module, inputs: Any, analysis: Analysis, recording: Recording, train: bool) -> None:
    set_mode(bare, train)
    recorder = Recorder(analysis, recording, "train:" if train else "")
    with without_data():
        args, kwargs = build(inputs)
        for place, tensor in enumerate(leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)):
            name = f"input{place}" if place else "input"
            recording.inputs.append(name)
            analysis.remember(tensor, Value(tuple(tensor.shape), (), Storage(), name))
        with modules_followed(bare, recorder), recorder:
            result = bare(*args, **kwargs)
    for tensor in pytree.tree_leaves(result):
        if isinstance(tensor, Tensor):
            value = analysis.value(tensor)
            if value.node is not None:
                recording.outputs.append(value.node)
            for family in value.families:
                analysis.atoms.fix(family, "the network's output")


def describe(example_inputs: Any) -> dict[str, Any]:
    """Example inputs as JSON: tensors by shape and type, other values as they are."""
    if isinstance(example_inputs, dict):
        return {"args": [], "kwargs": {name: _described(value) for name, value in example_inputs.items()}}
    args = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    return {"args": [_described(value) for value in args], "kwargs": {}}


def _described(value: Any) -> Any:
    if isinstance(value, Tensor):
        return {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TraceError(
        f"an example input is a {type(value).__name__}", "give tensors, numbers, strings, or lists of these"
    )


def build(inputs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments without data from their description."""
    return tuple(_built(value) for value in inputs["args"]), {k: _built(v) for k, v in inputs["kwargs"].items()}


def _built(value: Any) -> Any:
    if isinstance(value, dict):
        return torch.empty(value["shape"], dtype=getattr(torch, value["dtype"]), device="meta")
    return [_built(item) for item in value] if isinstance(value, list) else value
