"""From a network to its model graph: one evaluation without data, one union-find."""

from __future__ import annotations

import itertools
from typing import Any

from torch import nn

from tickdsl.gc_control import gc_disabled
from tickdsl.graph.coupling.analysis import Analysis
from tickdsl.graph.coupling.assemble import assemble
from tickdsl.graph.coupling.atom_constraints import AtomConstraints
from tickdsl.graph.coupling.recording import Recording
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.tracing.example_inputs import TraceError, build_inputs, describe_inputs
from tickdsl.graph.tracing.meta import copy_to_meta, on_meta_device, set_training_mode
from tickdsl.graph.tracing.recorder import Recorder, record_run
from tickdsl.graph.tracing.train_mode import TrainingModeWatch


@gc_disabled()
def trace(model: nn.Module, example_inputs: Any) -> ModelGraph:
    """The model graph of a network.

    `example_inputs` is a tensor, a tuple of positional arguments, or a dictionary of keyword arguments; only shapes
    and types matter. The network is not changed and not trained; a copy without data runs as in evaluation and, where
    its code asks for the mode, as in training (auxiliary heads). Raises TraceError where it does not run in evaluation.
    """
    meta_model = copy_to_meta(model)
    watch = TrainingModeWatch(meta_model)
    analysis = Analysis(AtomConstraints())
    for name, tensor in itertools.chain(meta_model.named_parameters(), meta_model.named_buffers()):
        analysis.add_parameter(name, tensor)
    inputs = describe_inputs(example_inputs)
    evaluation = Recording()
    try:
        _record(meta_model, inputs, analysis, evaluation, train=False)
    except Exception as error:
        raise TraceError(
            f"{type(model).__name__} does not run on the example inputs: {type(error).__name__}: {error}",
            "check their shapes; the network runs on tensors without data, so its code must not depend on values",
        ) from error
    training = Recording()
    if watch.reads_training:
        try:
            _record(meta_model, inputs, analysis, training, train=True)
        except Exception as error:  # a network's own code may raise anything, for want of targets for instance
            training = Recording(unknown=[f"training mode: {type(error).__name__}: {error}"])
    return assemble(model, analysis, evaluation, training, inputs)


def _record(meta_model: nn.Module, inputs: Any, analysis: Analysis, recording: Recording, train: bool) -> None:
    set_training_mode(meta_model, train)
    with on_meta_device():
        args, kwargs = build_inputs(inputs)
        record_run(meta_model, Recorder(analysis, recording, "train:" if train else ""), args, kwargs)


__all__ = ["TraceError", "trace"]
