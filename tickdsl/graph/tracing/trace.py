"""Traces a network to its model graph with one forward pass on the meta device."""

from __future__ import annotations

import itertools
import traceback
from pathlib import Path
from typing import Any

import torch
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
    """Trace the model graph of a network.

    `example_inputs` is a tensor, a tuple of positional arguments, or a dictionary of keyword arguments; only shapes and
    dtypes matter. The network itself is neither run nor changed: a copy runs on the meta device in eval mode and, if
    its code reads `training`, also in training mode (auxiliary heads). Raises TraceError if the copy does not run in
    eval mode.
    """
    meta_model = copy_to_meta(model)
    watch = TrainingModeWatch(meta_model)
    analysis = Analysis(AtomConstraints())
    for name, tensor in itertools.chain(meta_model.named_parameters(), meta_model.named_buffers()):
        analysis.add_parameter(name, tensor)
    inputs = describe_inputs(example_inputs, model)
    evaluation = Recording()
    try:
        _record(meta_model, inputs, analysis, evaluation, train=False)
    except TraceError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}{_place(error)}"
        raise TraceError(
            f"{type(model).__name__} does not run on the example inputs: {reason}",
            "check the input shapes; tracing uses meta tensors, so the code must not depend on tensor values",
        ) from error
    training = Recording()
    if watch.reads_training:
        try:
            _record(meta_model, inputs, analysis, training, train=True)
        except Exception as error:  # the network's code may raise anything, for lack of targets, for example
            training = Recording(unknown=[f"training mode: {type(error).__name__}: {error}"])
    return assemble(model, analysis, evaluation, training, inputs)


def _place(error: Exception) -> str:
    """The file and line of the network's code that raised an error; "" if it was raised elsewhere."""
    libraries = (str(Path(torch.__file__).parent), str(Path(__file__).parents[2]))
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((*libraries, "<"))]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""


def trace_variant(
    model: nn.Module, inputs: dict[str, Any], floating: torch.dtype | None, train: bool = False
) -> ModelGraph:
    """Trace a network again for inputs of another size, or in training mode, without blocks.

    `floating` replaces the dtype of floating-point inputs.

    Raises whatever the network's code raises.
    """
    meta_model = copy_to_meta(model)
    analysis = Analysis(AtomConstraints())
    for name, tensor in itertools.chain(meta_model.named_parameters(), meta_model.named_buffers()):
        analysis.add_parameter(name, tensor)
    recording = Recording()
    _record(meta_model, inputs, analysis, recording, train, floating)
    return assemble(model, analysis, recording, Recording(), inputs, with_blocks=False)


def _record(
    meta_model: nn.Module,
    inputs: Any,
    analysis: Analysis,
    recording: Recording,
    train: bool,
    floating: torch.dtype | None = None,
) -> None:
    set_training_mode(meta_model, train)
    with on_meta_device():
        args, kwargs = build_inputs(inputs, floating)
        record_run(meta_model, Recorder(analysis, recording, "train:" if train else ""), args, kwargs)


__all__ = ["TraceError", "trace"]
