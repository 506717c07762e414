"""A network as a program of torch.export: one input, a batch of any size; its outputs; no Python code in it."""

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
from tickdsl.tickets.float_preprocessing import FloatPreprocessing
from tickdsl.tickets.outputs import OutputInfo, describe_outputs, leaves
from tickdsl.tickets.preprocessing import InputPreprocessing, Preprocessing
from tickdsl.tickets.rebuilding import run_probe
from tickdsl.tickets.ticket import Ticket
from tickdsl.training.example_inputs import example_inputs
from tickdsl.training.tasks import CLASSIFY, Outputs, find_task

_HINT = "change the network's `forward`, or export it with `--format ticket`, which takes every network"


def _plain(outputs: Outputs) -> Outputs:
    """A tensor, or a tuple of tensors: the classes of other collections are not in the file."""
    return outputs if isinstance(outputs, Tensor) else leaves(outputs)


class NormalisedNetwork(nn.Module):
    """A network that takes float images in 0..1 [N, C, H, W] and normalises them as its training did."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", 255 * torch.tensor(preprocessing.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(preprocessing.std).view(1, -1, 1, 1)), persistent=False)
        self.mean: Tensor
        self.scale: Tensor

    def forward(self, images: Tensor) -> Outputs:
        """Return the network's outputs. The arithmetic is that of `training.data.preprocess.Normalise`, bit for bit."""
        return _plain(self.network((images * 255 - self.mean) * self.scale))


class RawNetwork(nn.Module):
    """A network that takes images that are normalised already."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Outputs:
        """Return the network's outputs."""
        return _plain(self.network(images))


class StandardisedNetwork(nn.Module):
    """A network that takes numbers [N, C, H, W] as they are in the data, and standardises them as its training did.

    raw: leave that to the user of the file.
    """

    def __init__(self, network: nn.Module, preprocessing: FloatPreprocessing, *, raw: bool) -> None:
        super().__init__()
        self.network, self.raw = network, raw
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / torch.tensor(preprocessing.std).view(1, -1, 1, 1), persistent=False)
        self.mean: Tensor
        self.scale: Tensor

    def forward(self, numbers: Tensor) -> Outputs:
        """Return the network's outputs; the arithmetic is that of `training.data.preprocess.Standardise`."""
        return _plain(self.network(numbers if self.raw else (numbers - self.mean) * self.scale))


class TokenNetwork(nn.Module):
    """A network that takes tokens."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Outputs:
        """Return the network's outputs."""
        return _plain(self.network(tokens))


def dynamic_shapes(preprocessing: InputPreprocessing) -> dict[str, dict[int, Dim]]:
    """The batch is a dimension of any size from 1."""
    return {preprocessing.input_name: {0: Dim("batch", min=1)}}


def export_program(
    network: nn.Module, preprocessing: InputPreprocessing, *, raw: bool = False, task: str = CLASSIFY.name
) -> ExportedProgram:
    """Export a network, in eval mode, for batches of any size.

    raw: leave the normalisation of images or numbers out. Raises TickdslError if torch.export cannot take the network,
    or if it returns something other than tensors, or as a classifier something other than one tensor of logits.
    """
    if isinstance(preprocessing, FloatPreprocessing):
        wrapped: nn.Module = StandardisedNetwork(network, preprocessing, raw=raw)
    elif not isinstance(preprocessing, Preprocessing):
        wrapped = TokenNetwork(network)
    else:
        wrapped = RawNetwork(network) if raw else NormalisedNetwork(network, preprocessing)
    example = example_inputs(2, preprocessing.shape)
    was_training = network.training
    try:
        with quiet_torch(), torch.no_grad():
            program = torch.export.export(wrapped.eval(), (example,), dynamic_shapes=dynamic_shapes(preprocessing))
    except Exception as error:  # the network's own code runs here, and may raise anything
        raise TickdslError(f"torch.export cannot take {_name(network)}: {_reason(error)}", _HINT) from error
    finally:
        network.train(was_training)
    outputs = program.graph_signature.output_specs
    if not outputs or not all(isinstance(output.arg, TensorArgument) for output in outputs):
        raise TickdslError(f"{_name(network)} returns something other than tensors", _HINT)
    if task == CLASSIFY.name and len(outputs) != 1:
        raise TickdslError(f"{_name(network)} returns something other than one tensor of logits", _HINT)
    _remove_stack_traces(program)
    return program


def outputs_of(ticket: Ticket, network: nn.Module) -> tuple[OutputInfo, ...]:
    """The tensors that a ticket's network returns. Tickets of earlier versions do not say: their network is run."""
    return ticket.outputs or describe_outputs(run_probe(network, ticket.preprocessing), find_task(ticket.task))


def describe_file(ticket: Ticket, network: nn.Module, *, raw: bool) -> str:
    """What an exported file takes and returns, in words."""
    preprocessing = ticket.preprocessing
    returned = " and ".join(output.in_words for output in outputs_of(ticket, network))
    if isinstance(preprocessing, FloatPreprocessing):
        size = f"[N, {', '.join(map(str, preprocessing.shape))}]"
        values = "standardised by its user" if raw else "as in the data, standardised inside"
        return f"takes `{preprocessing.input_name}`, float32 {size}, {values}, and returns {returned}"
    if not isinstance(preprocessing, Preprocessing):
        values = f"whole numbers from 0 to {preprocessing.vocabulary - 1}"
        return (
            f"takes `{preprocessing.input_name}`, int64 [N, {preprocessing.length}], {values}, and returns {returned}"
        )
    size = f"[N, {', '.join(map(str, preprocessing.shape))}]"
    values = "normalised by its user" if raw else "in 0 to 1, normalised inside"
    return f"takes `{preprocessing.input_name}`, float32 {size}, {values}, and returns {returned}"


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
