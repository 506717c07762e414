"""Match the units of two networks by their weights, and put one network's units in the order of the other's.

`activation_matching` matches them by what they compute.

Source: Ainsworth, Hayase & Srinivasa, Git Re-Basin: Merging Models modulo Permutation Symmetries (ICLR 2023), weight
matching, on the channel groups of the model graph: units that an addition couples move together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from tickdsl.graph.arrays import IntArray, readonly_ints
from tickdsl.graph.model import ChannelGroup, ModelGraph, Slice
from tickdsl.graph.structure import Structure

State = Mapping[str, Tensor]
#: By channel group: for each unit of one network, the unit of the other that takes its place.
Permutations = Mapping[str, IntArray]
#: A sweep over all groups that gains less than this share of the similarity ends the search.
_TOLERANCE = 1e-12
_MAX_SWEEPS = 100


def exchangeable_groups(
    graph: ModelGraph, network: nn.Module, run: Callable[[nn.Module], Tensor], generator: torch.Generator
) -> tuple[str, ...]:
    """The groups whose units can be put in any order without changing what the network computes.

    Tried on the network itself: grouped convolutions, channels in a fixed order or positions in attention have groups
    that cannot. `run` computes outputs of a copy of the dense `network` in float64.
    """
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    expected = run(network)
    found = []
    for group in graph.channels:
        if (
            group.reason is not None
            or group.parts
            or not all(unit_positions(group, part) is not None for part in group.slices)
        ):
            continue
        order = torch.randperm(group.size, generator=generator).numpy()
        network.load_state_dict(permuted_state(graph, state, {group.name: order}))
        if torch.allclose(run(network), expected, rtol=1e-6, atol=1e-8):
            found.append(group.name)
    network.load_state_dict(state)
    return tuple(found)


def match_units(graph: ModelGraph, own: State, other: State, groups: Collection[str]) -> dict[str, IntArray]:
    """Permutations of the units of `other` that make its weights most similar to those of `own`.

    Both are state dicts of the dense network. Coordinate ascent on the inner product of all parameters: each group in
    turn is assigned optimally, given the others, until no group changes the product.
    """
    from scipy.optimize import linear_sum_assignment  # here, since loading it takes a third of a second

    chosen = [graph.group(name) for name in groups]
    permutations = {group.name: np.arange(group.size) for group in chosen}
    for _ in range(_MAX_SWEEPS):
        changed = False
        for group in chosen:
            gains = _similarity(graph, group, own, other, permutations)
            rows, columns = linear_sum_assignment(gains, maximize=True)
            before = gains[np.arange(group.size), permutations[group.name]].sum()
            if gains[rows, columns].sum() > before + _TOLERANCE * max(1.0, abs(before)):
                permutations[group.name], changed = columns, True
        if not changed:
            break
    return permutations


def permuted_state(graph: ModelGraph, state: State, permutations: Permutations) -> dict[str, Tensor]:
    """A state dict of the dense network with its units in another order."""
    result = {}
    for name, tensor in state.items():
        moved = tensor
        for dim, index in _orders(graph, graph.aliases.get(name, name), permutations).items():
            moved = moved.index_select(dim, torch.from_numpy(index))
        result[name] = moved.clone()
    return result


def permuted_structure(graph: ModelGraph, structure: Structure, permutations: Permutations) -> Structure:
    """A structure with the units in another order, those that it has removed too; it must keep all layers."""
    masks = {}
    for name, mask in structure.masks.items():
        moved = np.asarray(mask)
        for dim, index in _orders(graph, name, permutations).items():
            moved = np.take(moved, index, axis=dim)
        masks[name] = moved
    kept = {
        name: readonly_ints(np.flatnonzero(np.isin(permutations[name], units))) if name in permutations else units
        for name, units in structure.kept.items()
    }
    return attrs.evolve(structure.without_masks(), kept=kept).with_masks(masks)


def _orders(
    graph: ModelGraph, tensor: str, permutations: Permutations, but: tuple[str, int] | None = None
) -> dict[int, IntArray]:
    """The new order of each dimension of a tensor; `but`: a group and a dimension that this group leaves as it is."""
    orders: dict[int, IntArray] = {}
    for group, part in graph.slices.get(tensor, ()):
        if group.name not in permutations or (group.name, part.dim) == but:
            continue
        positions = unit_positions(group, part)
        assert positions is not None
        order = orders.setdefault(part.dim, np.arange(graph.shape(tensor)[part.dim]))
        order[positions] = positions[permutations[group.name]]
    return orders


def unit_positions(group: ChannelGroup, part: Slice) -> IntArray | None:
    """The positions of each unit in a slice, [units, positions]; None if units have unequally many."""
    counts = np.bincount(part.unit, minlength=group.size)
    if not len(part.unit) or (counts != counts[0]).any():
        return None
    return np.asarray(part.index)[np.argsort(part.unit, kind="stable")].reshape(group.size, -1)


def _similarity(
    graph: ModelGraph, group: ChannelGroup, own: State, other: State, permutations: Permutations
) -> np.ndarray:
    """The inner products of the weights of each unit of `own` with those of each unit of `other`, [units, units]."""
    total = np.zeros((group.size, group.size))
    for name, dim, positions in _parameter_slices(graph, group):
        moved = other[name]
        for place, index in _orders(graph, name, permutations, but=(group.name, dim)).items():
            moved = moved.index_select(place, torch.from_numpy(index))
        total += _by_unit(own[name], dim, positions) @ _by_unit(moved, dim, positions).T
    return total


def _parameter_slices(graph: ModelGraph, group: ChannelGroup) -> Iterator[tuple[str, int, IntArray]]:
    """The parameters of a group, each dimension once, with the positions of its units; buffers do not count."""
    found: dict[tuple[str, int], list[IntArray]] = {}
    for part in group.slices:
        if part.parameter in graph.parameters and part.role != "factor":  # those have another role, too
            positions = unit_positions(group, part)
            assert positions is not None
            found.setdefault((part.parameter, part.dim), []).append(positions)
    for (name, dim), parts in found.items():
        yield name, dim, np.concatenate(parts, axis=1)


def _by_unit(tensor: Tensor, dim: int, positions: IntArray) -> np.ndarray:
    """The entries of each unit, [units, entries], float64."""
    first = tensor.detach().double().movedim(dim, 0)
    return np.asarray(first[torch.from_numpy(positions)].reshape(len(positions), -1))
