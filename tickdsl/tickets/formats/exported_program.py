"""A network as a program of torch.export: inputs with a batch of any size; its outputs; no Python code in it."""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import TensorArgument
from torch.fx import GraphModule

from tickdsl.errors import TickdslError
from tickdsl.tickets import generators
from tickdsl.tickets.float_preprocessing import FloatPreprocessing
from tickdsl.tickets.formats.drawn_noise import GivenDraws
from tickdsl.tickets.formats.file_interface import FileInterface
from tickdsl.tickets.named_preprocessing import NamedPreprocessing
from tickdsl.tickets.outputs import leaves
from tickdsl.tickets.parts import part_of
from tickdsl.tickets.preprocessing import InputPreprocessing, Preprocessing
from tickdsl.training.catalogue.input_shapes import NUMBERS
from tickdsl.training.data.preprocess import statistics_shape
from tickdsl.training.example_inputs import example_inputs
from tickdsl.training.named_tensors import NamedTensors
from tickdsl.training.tasks import CLASSIFY, Outputs

#: What the names of inputs are prefixed by as names of modules, of which some are reserved.
_PART = "of_"
_HINT = "change the network's `forward`, or export it with `--format ticket`, which takes every network"


def _plain(outputs: Outputs) -> Outputs:
    """A tensor, or a tuple of tensors: the classes of other collections are not in the file."""
    return outputs if isinstance(outputs, Tensor) else leaves(outputs)


class NormalisedNetwork(nn.Module):
    """A network that takes float images in 0..1 [N, C, H, W] and normalises them as its training did.

    Its buffers have names that no output has: ONNX has one set of names.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("input_mean", 255 * torch.tensor(preprocessing.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer(
            "input_scale", 1 / (255 * torch.tensor(preprocessing.std).view(1, -1, 1, 1)), persistent=False
        )
        self.input_mean: Tensor
        self.input_scale: Tensor

    def forward(self, images: Tensor) -> Outputs:
        """Return the network's outputs. The arithmetic is that of `training.data.preprocess.Normalise`, bit for bit."""
        return _plain(self.network((images * 255 - self.input_mean) * self.input_scale))


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

    mean, std: by channel, applied in `shape`. raw: leave that to the user of the file.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        shape: tuple[int, ...] = (1, -1, 1, 1),
        *,
        raw: bool,
    ) -> None:
        super().__init__()
        self.network, self.raw = network, raw
        self.register_buffer("input_mean", torch.tensor(mean).view(shape), persistent=False)
        self.register_buffer("input_scale", 1 / torch.tensor(std).view(shape), persistent=False)
        self.input_mean: Tensor
        self.input_scale: Tensor

    def forward(self, numbers: Tensor) -> Outputs:
        """Return the network's outputs; the arithmetic is that of `training.data.preprocess.Standardise`."""
        return _plain(self.network(numbers if self.raw else (numbers - self.input_mean) * self.input_scale))


class TokenNetwork(nn.Module):
    """A network that takes tokens."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor) -> Outputs:
        """Return the network's outputs."""
        return _plain(self.network(tokens))


class NamedNetwork(nn.Module):
    """A network that takes several inputs by keyword, as files take them, and normalises them as its training did.

    raw: leave that to the user of the file.
    """

    def __init__(self, network: nn.Module, preprocessing: NamedPreprocessing, *, raw: bool) -> None:
        super().__init__()
        self.network = network
        self.parts = nn.ModuleDict()
        for name, part in preprocessing.parts.items() if not raw else ():
            if isinstance(part, Preprocessing):
                self.parts[_PART + name] = NormalisedNetwork(nn.Identity(), part)
            elif part.known.kind == NUMBERS:
                self.parts[_PART + name] = StandardisedNetwork(
                    nn.Identity(), part.mean, part.std, statistics_shape(part.known), raw=False
                )

    def forward(self, **inputs: Tensor) -> Outputs:
        """Return the network's outputs."""
        prepared = {
            name: self.parts[_PART + name](tensor) if _PART + name in self.parts else tensor
            for name, tensor in inputs.items()
        }
        return _plain(self.network(**prepared))


class PartNetwork(nn.Module):
    """A part of a network that takes what the rest of it computes."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, inputs: Tensor) -> Outputs:
        """Return the part's outputs."""
        return _plain(self.part(inputs))


class NoiseNetwork(nn.Module):
    """A network that takes what it would draw from a normal distribution as further inputs, in order."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, *z: Tensor) -> Outputs:
        """Return the network's outputs."""
        with GivenDraws(z):
            return self.network(inputs)


def dynamic_shapes(interface: FileInterface) -> dict[str, Any]:
    """The batch is a dimension of any size from 1."""
    batch = {0: Dim("batch", min=1)}
    if interface.makes_images:
        return {generators.NOISE: batch}
    if not interface.of_inputs:
        return {"inputs": batch}
    if interface.noise:
        return {"inputs": batch, "z": tuple(batch for _ in interface.noise)}
    return {known.name: batch for known in interface.inputs}


def export_program(
    network: nn.Module,
    preprocessing: InputPreprocessing,
    interface: FileInterface,
    *,
    raw: bool = False,
    task: str = CLASSIFY.name,
) -> ExportedProgram:
    """Export a network, in eval mode, for batches of any size.

    raw: leave the normalisation of images or numbers out. Raises TickdslError if torch.export cannot take the network,
    or if it returns something other than tensors, or as a classifier something other than one tensor of logits.
    """
    examples, keywords = [torch.zeros(2, *known.shape) for known in interface.noise], {}
    if interface.makes_images:
        wrapped: nn.Module = generators.ImageGenerator(network, raw=raw)
    elif not interface.of_inputs:
        wrapped = PartNetwork(part_of(network, interface.part))
        (taken,) = interface.inputs
        examples = [torch.zeros(2, *taken.shape, dtype=getattr(torch, taken.dtype))]
    else:
        held = part_of(network, interface.part) if interface.part else network
        wrapped = _wrapped(held, preprocessing, raw=raw)
        wrapped = NoiseNetwork(wrapped) if interface.noise else wrapped
        inputs: Any = example_inputs(2, preprocessing.shape)
        if isinstance(inputs, NamedTensors):
            keywords = inputs.tensors
        else:
            examples = [inputs, *examples]
    was_training = network.training
    try:
        with quiet_torch(), torch.no_grad():
            program = torch.export.export(
                wrapped.eval(), tuple(examples), keywords, dynamic_shapes=dynamic_shapes(interface)
            )
    except Exception as error:  # the network's own code runs here, and may raise anything
        raise TickdslError(f"torch.export cannot take {_name(network)}: {_reason(error)}", _HINT) from error
    finally:
        network.train(was_training)
    outputs = program.graph_signature.output_specs
    if not outputs or not all(isinstance(output.arg, TensorArgument) for output in outputs):
        raise TickdslError(f"{_name(network)} returns something other than tensors", _HINT)
    if task == CLASSIFY.name and len(outputs) != 1 and not interface.part:
        raise TickdslError(f"{_name(network)} returns something other than one tensor of logits", _HINT)
    _remove_stack_traces(program)
    return program


def _wrapped(network: nn.Module, preprocessing: InputPreprocessing, *, raw: bool) -> nn.Module:
    """The network with its preprocessing, unless `raw` leaves that out."""
    if isinstance(preprocessing, NamedPreprocessing):
        return _named_network(preprocessing)(network, preprocessing, raw=raw)
    if isinstance(preprocessing, FloatPreprocessing):
        return StandardisedNetwork(network, preprocessing.mean, preprocessing.std, raw=raw)
    if not isinstance(preprocessing, Preprocessing):
        return TokenNetwork(network)
    return RawNetwork(network) if raw else NormalisedNetwork(network, preprocessing)


def _named_network(preprocessing: NamedPreprocessing) -> type[NamedNetwork]:
    """`NamedNetwork` whose `forward` says which keywords it takes, which torch.export names the inputs by."""

    class Named(NamedNetwork):
        def forward(self, **inputs: Tensor) -> Outputs:
            return super().forward(**inputs)

    kinds = inspect.Parameter
    words = [kinds("self", kinds.POSITIONAL_ONLY)]
    words += [kinds(name, kinds.POSITIONAL_OR_KEYWORD) for name in preprocessing.shape]
    Named.forward.__signature__ = inspect.Signature(words)  # type: ignore[attr-defined]
    return Named


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
