"""What a file that runs without tickdsl takes and returns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import torch
from torch import nn

from tickdsl.errors import TickdslError
from tickdsl.tickets import generators
from tickdsl.tickets.float_preprocessing import FloatPreprocessing
from tickdsl.tickets.formats.drawn_noise import RecordedDraws, drawn_shapes
from tickdsl.tickets.named_preprocessing import NamedPreprocessing
from tickdsl.tickets.outputs import OutputInfo, describe_outputs
from tickdsl.tickets.parts import call_part, input_of_part, outputs_of_part, part_of
from tickdsl.tickets.preprocessing import Preprocessing
from tickdsl.tickets.rebuilding import run_probe
from tickdsl.tickets.ticket import Ticket
from tickdsl.tickets.token_preprocessing import TokenPreprocessing
from tickdsl.training.catalogue.input_shapes import FLAGS, IMAGE, INTEGERS, NUMBERS, one_shape
from tickdsl.training.tasks import Generate, find_task

#: What an input of noise holds.
NOISE_MEANING = "numbers from a standard normal distribution"


@attrs.frozen
class InputInfo:
    """A tensor that a file takes: its name, its type, its shape without the batch, and what it holds.

    is_noise: whether it takes the place of random numbers.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    meaning: str
    is_noise: bool = False

    @property
    def in_words(self) -> str:
        """The name, the type, the shape and the meaning."""
        return f"`{self.name}`, {self.dtype} [{', '.join(['N', *map(str, self.shape)])}], {self.meaning}"


@attrs.frozen
class FileInterface:
    """The inputs and outputs of a file, in order.

    part: the part of the network that it holds; empty for all of it. of_inputs: whether the file takes the network's
    own inputs, which are prepared as those are. makes_images: whether the part is the generator of images.
    """

    inputs: tuple[InputInfo, ...]
    outputs: tuple[OutputInfo, ...]
    part: str = ""
    of_inputs: bool = True
    makes_images: bool = False

    @property
    def noise(self) -> tuple[InputInfo, ...]:
        """The inputs that take the place of random numbers."""
        return tuple(known for known in self.inputs if known.is_noise)

    @property
    def in_words(self) -> str:
        """What the file takes and returns."""
        taken = ", and ".join(known.in_words for known in self.inputs)
        returned = " and ".join(output.in_words for output in self.outputs)
        holds = f"holds the part `{self.part}`: " if self.part else ""
        return f"{holds}takes {taken}, and returns {returned}"


def interface_of(ticket: Ticket, network: nn.Module, *, raw: bool = False, part: str = "") -> FileInterface:
    """The inputs and outputs of a file of a ticket; tickets of earlier versions do not say: their network is run.

    A network of the task `generate` is exported as its generator; every other one as it is, with inputs for the normal
    random numbers that it draws. raw: whether the file leaves the normalisation to its user. part: that of the network
    that is exported.

    Raises TickdslError if the network draws other random numbers, or there is no such part, or none that can be run
    alone.
    """
    task, preprocessing = find_task(ticket.task), ticket.preprocessing
    if isinstance(task, Generate) and part in ("", generators.PART):
        noise = InputInfo(generators.NOISE, "float32", (generators.latent_of(network),), NOISE_MEANING, is_noise=True)
        meaning = f"the images that are generated, with values from {-1 if raw else 0} to 1"
        images = OutputInfo(generators.IMAGES, one_shape(preprocessing.shape), meaning)
        return FileInterface((noise,), (images,), generators.PART, of_inputs=False, makes_images=True)
    if part:
        return part_interface(ticket, network, part, raw=raw)
    outputs = ticket.outputs or describe_outputs(run_probe(network, preprocessing), task)
    shapes = drawn_shapes(network, preprocessing)
    names = ["z"] if len(shapes) == 1 else [f"z{index + 1}" for index in range(len(shapes))]
    drawn = (
        InputInfo(name, "float32", shape, NOISE_MEANING, is_noise=True)
        for name, shape in zip(names, shapes, strict=True)
    )
    if isinstance(preprocessing, NamedPreprocessing):
        if shapes:
            raise TickdslError(
                f"the network {type(network).__name__} takes several inputs and draws random numbers",
                "use `--format ticket`, which takes every network",
            )
        return FileInterface(tuple(_named_inputs(preprocessing, raw=raw)), outputs)
    return FileInterface((_input(preprocessing, raw=raw), *drawn), outputs)


def part_interface(ticket: Ticket, network: nn.Module, part: str, *, raw: bool = False) -> FileInterface:
    """The inputs and outputs of a part of a network, as the network uses it; see `interface_of`."""
    task, preprocessing = find_task(ticket.task), ticket.preprocessing
    fixed: Any = preprocessing.fixed(2)
    call = call_part(network, part, preprocessing, fixed, task)
    with torch.no_grad(), RecordedDraws() as recorded:
        part_of(network, part)(call.inputs)
    if recorded.drawn:
        raise TickdslError(f"the part `{part}` draws random numbers", "export all of the network, or another part")
    outputs = outputs_of_part(task, part, call.outputs)
    if call.of_inputs and not isinstance(preprocessing, NamedPreprocessing):
        return FileInterface((_input(preprocessing, raw=raw),), outputs, part)
    if raw:
        raise TickdslError(f"--raw does not apply to the part `{part}`, which takes no images", "leave it out")
    name, meaning = input_of_part(task, part)
    dtype = str(call.inputs.dtype).removeprefix("torch.")
    given = InputInfo(name, dtype, tuple(map(int, call.inputs.shape[1:])), meaning)
    return FileInterface((given,), outputs, part, of_inputs=False)


def _named_inputs(preprocessing: NamedPreprocessing, *, raw: bool) -> Iterator[InputInfo]:
    """The inputs of a file that takes several."""
    types = {IMAGE: "float32", NUMBERS: "float32", INTEGERS: "int64", FLAGS: "bool"}
    for known in preprocessing.shape.inputs:
        meaning = {
            IMAGE: "normalised by its user" if raw else "in 0 to 1, normalised inside",
            NUMBERS: "standardised by its user" if raw else "as in the data, standardised inside",
            INTEGERS: f"whole numbers from 0 to {known.values - 1}",
            FLAGS: "true or false",
        }[known.kind]
        yield InputInfo(known.name, types[known.kind], known.sizes, meaning)


def _input(preprocessing: Preprocessing | FloatPreprocessing | TokenPreprocessing, *, raw: bool) -> InputInfo:
    name = preprocessing.input_name
    if isinstance(preprocessing, FloatPreprocessing):
        values = "standardised by its user" if raw else "as in the data, standardised inside"
        return InputInfo(name, "float32", preprocessing.shape, values)
    if not isinstance(preprocessing, Preprocessing):
        values = f"whole numbers from 0 to {preprocessing.vocabulary - 1}"
        return InputInfo(name, "int64", (preprocessing.length,), values)
    return InputInfo(
        name, "float32", preprocessing.shape, "normalised by its user" if raw else "in 0 to 1, normalised inside"
    )
