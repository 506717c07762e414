"""Fresh weights for a pruned network, as its own code would draw them if it had been built at that size."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tickdsl.training.models.initialiser_record import Origin
from tickdsl.training.rng import stream_seed


def redraw(
    module: nn.Module, origins: Mapping[str, Origin], fan_in_shares: Mapping[str, float], *, seed: int, role: str
) -> None:
    """Draw the parameters of a pruned network anew, in place, in the way that `origins` tells by name.

    The module holds slices of a fresh dense network. Parameters whose initialiser fits any shape are drawn by it again,
    each from a random stream of its own name. What the network's code draws in another way stays the slice, scaled to
    the fan-in that is left (see `scale_to_fan_in`).
    """
    parameters = dict(module.named_parameters())
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for name, parameter in parameters.items():
            origin = origins.get(name, Origin("drawn"))
            torch.default_generator.manual_seed(stream_seed(seed, role, name))
            if origin.kind == "init":
                getattr(nn.init, origin.function)(parameter, **origin.arguments)
            elif origin.kind == "reset" and _reset(module, name, origin.function):
                continue
            elif origin.kind != "given":
                scale_to_fan_in({name: parameter}, fan_in_shares)


def scale_to_fan_in(state: Mapping[str, Tensor], fan_in_shares: Mapping[str, float]) -> None:
    """Scale weights that were sliced from a larger network, in place.

    A weight that keeps the share s of its inputs is divided by sqrt(s), so its layer's outputs have the same variance
    as in the larger network; all initialisers that depend on the fan-in do the same.
    """
    with torch.no_grad():
        for name, share in fan_in_shares.items():
            if name in state:
                state[name].div_(math.sqrt(share))


def _reset(module: nn.Module, name: str, method: str) -> bool:
    """Draw one parameter again by a method of its module; returns whether the module has the method."""
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    reset = getattr(owner, method, None)
    if reset is None:
        return False
    others = {word: tensor.clone() for word, tensor in owner.state_dict().items() if word != leaf}
    reset()
    current = owner.state_dict(keep_vars=True)
    for word, value in others.items():
        current[word].copy_(value)
    return True
