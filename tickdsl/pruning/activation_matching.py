"""Match the units of two networks by their activations on the same inputs.

Source: Ainsworth, Hayase & Srinivasa, Git Re-Basin: Merging Models modulo Permutation Symmetries (ICLR 2023), matching
activations; with correlations in place of inner products, as Li et al. (Convergent Learning, 2016) and Adnan, Jain et
al. (Sparse Training from Random Initialization, ICML 2025) do, so that no layer counts more for its larger values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from tickdsl.graph.arrays import IntArray
from tickdsl.graph.model import ChannelGroup, ModelGraph
from tickdsl.pruning.alignment import unit_positions
from tickdsl.training.named_tensors import run_network

#: The images of a batch: the inputs of all layers of both networks are held at once.
BATCH = 64
#: A unit whose variance is below this share of its mean square is constant: it correlates with nothing.
_CONSTANT = 1e-10


@attrs.frozen(eq=False)
class _Reader:
    """A layer that reads the units of a group.

    path: of its module. dim: the dimension of its input that holds channels. positions: of each unit in that
    dimension, [units, positions].
    """

    path: str
    dim: int
    positions: Tensor

    def by_unit(self, inputs: Tensor) -> Tensor:
        """The values of each unit in inputs of the layer, [units, values], float64."""
        channels = inputs.double().movedim(self.dim, 0)
        return channels[self.positions.to(inputs.device)].reshape(len(self.positions), -1)


class _Correlation:
    """Sums for the correlation of each unit of one network with each of another's."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: list[Tensor] = []

    def add(self, own: Tensor, other: Tensor) -> None:
        """Add values of the units, [units, values], that both networks computed from the same inputs."""
        self.count += own.shape[1]
        sums = [own.sum(1), other.sum(1), own.square().sum(1), other.square().sum(1), own @ other.T]
        self.sums = [a + b for a, b in zip(self.sums, sums, strict=True)] if self.sums else sums

    def result(self) -> np.ndarray:
        """The correlations, [units of the one, units of the other]; 0 for units that are constant."""
        own, other, own_squares, other_squares, products = (each.cpu() / self.count for each in self.sums)
        scales = []
        for mean, square in ((own, own_squares), (other, other_squares)):
            variance = square - mean.square()
            varies = variance > _CONSTANT * square
            scales.append(torch.where(varies, variance, 1).rsqrt() * varies)
        return np.asarray((products - torch.outer(own, other)) * torch.outer(*scales))


def match_by_activations(
    graph: ModelGraph,
    own: nn.Module,
    other: nn.Module,
    groups: Collection[str],
    batches: Iterable[Any],
    noise: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> dict[str, IntArray]:
    """Permutations of the units of `other` whose activations correlate most with those of `own`.

    Both are dense networks on the device of `batches`, which are inputs; `noise` makes both draw the same random
    numbers. Activations are what later layers read, after nonlinearities, sums and pooling; the values of an image at
    all positions count alike. Each group is assigned optimally by the sum of the correlations over the layers that read
    it. Left out, so that their units keep their order, are groups that no convolution (without groups) or linear layer
    reads, and those of attention: heads and the dimensions within them share channels, so that neither is known without
    the order of the other.
    """
    readers = {name: _readers(graph, graph.group(name), own) for name in groups}
    paths = {reader.path for found in readers.values() for reader in found}
    correlations = {(name, number): _Correlation() for name, found in readers.items() for number in range(len(found))}
    for inputs in batches:
        seen = []
        for network in (own, other):
            with noise():
                seen.append(_layer_inputs(network, paths, inputs))
        for name, found in readers.items():
            for number, reader in enumerate(found):
                for pair in zip(*(inputs_of.get(reader.path, ()) for inputs_of in seen), strict=True):
                    correlations[name, number].add(*map(reader.by_unit, pair))
    result = {}
    for name, found in readers.items():
        read = [correlations[name, number] for number in range(len(found)) if correlations[name, number].count]
        if read:
            result[name] = _assignment(np.sum([correlation.result() for correlation in read], axis=0))
    return result


def _readers(graph: ModelGraph, group: ChannelGroup, network: nn.Module) -> list[_Reader]:
    """The layers that read the units of a group, in channels that belong to no other group."""
    found = []
    for part in group.slices:
        if part.role != "consumer" or part.parameter not in graph.weights:
            continue
        shared = (each for each, other in graph.slices[part.parameter] if each is not group and other.dim == part.dim
                  and np.isin(other.index, part.index).any())  # fmt: skip
        if any(shared):
            continue
        path = graph.weights[part.parameter].module
        layer = network.get_submodule(path)
        if isinstance(layer, nn.Linear):
            dim = -1
        elif isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == 1:
            dim = 1
        else:
            continue
        positions = unit_positions(group, part)
        assert positions is not None, f"the units of {group.name} are of different sizes"
        found.append(_Reader(path, dim, torch.from_numpy(positions)))
    return found


def _layer_inputs(network: nn.Module, paths: Collection[str], inputs: Any) -> Mapping[str, list[Tensor]]:
    """What layers read when a network runs: by path, the input of each call."""
    seen: dict[str, list[Tensor]] = {}

    def record(path: str) -> Callable[[nn.Module, Any], None]:
        return lambda _, arguments: seen.setdefault(path, []).append(arguments[0].detach().clone())

    with torch.no_grad(), ExitStack() as stack:
        for path in paths:
            stack.callback(network.get_submodule(path).register_forward_pre_hook(record(path)).remove)
        run_network(network, inputs)
    return seen


def _assignment(gains: np.ndarray) -> IntArray:
    """For each row the column that it is assigned: the identity, unless another assignment gains more."""
    from scipy.optimize import linear_sum_assignment  # here, since loading it takes a third of a second

    rows, columns = linear_sum_assignment(gains, maximize=True)
    identity = np.arange(len(gains))
    return columns if gains[rows, columns].sum() > gains[identity, identity].sum() else identity
