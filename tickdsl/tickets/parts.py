"""One part of a network, such as an encoder or a decoder: a module that `forward` calls with one tensor."""

from __future__ import annotations

import copy
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from tickdsl.errors import TicketError
from tickdsl.tickets.outputs import OutputInfo, leaves, named_tensors
from tickdsl.tickets.preprocessing import InputPreprocessing
from tickdsl.training.evaluation import same_noise
from tickdsl.training.named_tensors import run_network
from tickdsl.training.tasks import Outputs, Task

#: Task and part -> the name of its output, and what that means; of other parts, the names of their places.
_OUTPUTS = {
    ("reconstruct", "encoder"): ("code", "the code of the image"),
    ("reconstruct", "decoder"): ("images", "the image that is reconstructed"),
    ("vae", "decoder"): ("logits", "the logits of the pixels"),
    ("generate", "generator"): ("images", "the image that is generated, with values from -1 to 1"),
    ("generate", "discriminator"): ("logits", "positive for images that are taken for real ones"),
}
#: Task and part -> the name of its input, if that is not the network's, and what it holds.
_INPUTS = {
    ("reconstruct", "decoder"): ("code", "as the encoder returns it"),
    ("vae", "decoder"): ("z", "a code: numbers from a standard normal distribution, or the encoder's mean"),
    ("generate", "generator"): ("z", "numbers from a standard normal distribution"),
}


@attrs.frozen(eq=False)
class PartCall:
    """What `forward` gives a part first, [N, …], and what the part returns.

    of_inputs: whether it is given the network's own inputs, as `preprocessing` prepares them.
    """

    inputs: Tensor
    outputs: Outputs
    of_inputs: bool


def part_of(network: nn.Module, name: str) -> nn.Module:
    """The part with this name, such as `decoder`. Raises TicketError if there is none."""
    modules = dict(network.named_modules())
    if not name or name not in modules:
        known = ", ".join(f"`{child}`" for child, _ in network.named_children())
        raise TicketError(f"the network {type(network).__name__} has no part `{name}`", f"its parts are {known}")
    part: nn.Module = modules[name]
    return part


def call_part(network: nn.Module, name: str, preprocessing: InputPreprocessing, inputs: Any, task: Task) -> PartCall:
    """Run a network in eval mode on the CPU, on inputs [N, …] as a data set stores them, and record a call of a part.

    Raises TicketError if there is no such part, or it is not called with one tensor and returns tensors.
    """
    module = copy.deepcopy(network).cpu().eval()
    part = part_of(module, name)
    prepare: Any = preprocessing
    prepared = prepare(inputs)
    given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    found: list[Outputs] = []
    same: list[bool] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        same.append(bool(args) and args[0] is prepared)
        given.append((tuple(each.clone() if isinstance(each, Tensor) else each for each in args), kwargs))

    part.register_forward_pre_hook(before, with_kwargs=True)
    part.register_forward_hook(lambda _, args, output: found.append(copy.deepcopy(output)))
    with torch.no_grad(), torch.random.fork_rng(devices=[]), same_noise(task, torch.device("cpu")):
        run_network(module, prepared)
    if not found:
        raise TicketError(f"`forward` of {type(network).__name__} does not call `{name}`", "name a part that it calls")
    args, kwargs = given[0]
    if kwargs or len(args) != 1 or not isinstance(args[0], Tensor) or not leaves(found[0]):
        raise TicketError(
            f"the part `{name}` does not take one tensor and return tensors",
            "export another part, or all of the network",
        )
    return PartCall(args[0], found[0], same[0])


def input_of_part(task: Task, name: str) -> tuple[str, str]:
    """The name and the meaning of the input of a part that does not take the network's inputs."""
    return _INPUTS.get((task.name, name), ("inputs", f"as the network gives it to `{name}`"))


def outputs_of_part(task: Task, name: str, outputs: Outputs) -> tuple[OutputInfo, ...]:
    """The tensors that a part returns [B, …], with their names and meanings."""
    default, meaning = _OUTPUTS.get((task.name, name), ("outputs", f"what `{name}` returns"))
    return tuple(
        OutputInfo(own or default, tuple(map(int, tensor.shape[1:])), meaning)
        for own, tensor in named_tensors(outputs)
        if tensor.dim()
    )
