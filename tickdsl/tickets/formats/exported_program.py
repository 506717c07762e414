"""A network as a program of torch.export: one input, images of any number; one output, logits; no Python code in it."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import TensorArgument
from torch.fx import GraphModule

from tickdsl.errors import TickdslError
from tickdsl.tickets.preprocessing import Preprocessing

#: The names of the input and the output in exported files.
INPUT, OUTPUT = "images", "logits"
#: The batch is a dimension of any size from 1.
DYNAMIC_SHAPES = {INPUT: {0: Dim("batch", min=1)}}
_HINT = "change the network's `forward`, or export it with `--format ticket`, which takes every network"


class NormalisedNetwork(nn.Module):
    """A network that takes float images in 0..1 [N, C, H, W] and normalises them as its training did."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", 255 * torch.tensor(preprocessing.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(preprocessing.std).view(1, -1, 1, 1)), persistent=False)
        self.mean: Tensor
        self.scale: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [N, classes]. The arithmetic is that of `training.data.augment.Normalise`, bit for bit."""
        logits: Tensor = self.network((images * 255 - self.mean) * self.scale)
        return logits


class RawNetwork(nn.Module):
    """A network that takes images that are normalised already."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [N, classes]."""
        logits: Tensor = self.network(images)
        return logits


def export_program(network: nn.Module, preprocessing: Preprocessing, *, raw: bool = False) -> ExportedProgram:
    """Export a network, in eval mode, for batches of any size.

    raw: leave the normalisation out. Raises TickdslError if torch.export cannot take the network, or if it returns
    something other than one tensor.
    """
    wrapped = RawNetwork(network) if raw else NormalisedNetwork(network, preprocessing)
    example = torch.zeros(2, *preprocessing.shape)
    was_training = network.training
    try:
        with quiet_torch(), torch.no_grad():
            program = torch.export.export(wrapped.eval(), (example,), dynamic_shapes=DYNAMIC_SHAPES)
    except Exception as error:  # the network's own code runs here, and may raise anything
        raise TickdslError(f"torch.export cannot take {_name(network)}: {_reason(error)}", _HINT) from error
    finally:
        network.train(was_training)
    outputs = program.graph_signature.output_specs
    if len(outputs) != 1 or not isinstance(outputs[0].arg, TensorArgument):
        raise TickdslError(f"{_name(network)} returns something other than one tensor of logits", _HINT)
    _remove_stack_traces(program)
    return program


def describe_input(preprocessing: Preprocessing, *, raw: bool) -> str:
    """What an exported file takes, in words."""
    size = f"[N, {', '.join(map(str, preprocessing.shape))}]"
    values = "normalised by its user" if raw else "in 0 to 1, normalised inside"
    return f"takes `{INPUT}`, float32 {size}, {values}, and returns `{OUTPUT}` [N, classes]"


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Suppress what torch's exporters print and log: about their own code, and programs that they cannot take."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class if there is none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _reason(error: Exception) -> str:
    name = type(error).__name__
    if name.startswith("GuardOnDataDependent"):
        return "its code decides by the values of its input"
    if "marked batch as dynamic" in str(error):
        return "its code works for one batch size only"
    return f"{name}: {first_line(error)}"


def _name(network: nn.Module) -> str:
    return f"the network {type(network).__name__}"


def _remove_stack_traces(program: ExportedProgram) -> None:
    """Remove the paths of source files, which are of no use elsewhere and differ between machines."""
    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
