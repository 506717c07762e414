"""The weights of a stretched or squeezed ticket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from tickdsl.graph.surgery.compact import slice_tensor
from tickdsl.pruning.elastic import BlockMap


def carry_weights(state: Mapping[str, Tensor], names: Iterable[str], mapping: BlockMap) -> dict[str, Tensor]:
    """The values of a state dict under these names of the other network.

    state: of the whole source, with nothing removed. Copies of a neuron divide the weights that lead on from it.
    """
    return {name: _carried(state[mapping.source_of(name)], name, mapping) for name in names}


def _carried(tensor: Tensor, name: str, mapping: BlockMap) -> Tensor:
    maps = mapping.units.get(name)
    if maps is None:
        return tensor
    tensor = slice_tensor(tensor, [None if each is None else each.sources for each in maps])
    if len(maps) > 1 and (inputs := maps[1]) is not None:
        tensor = tensor * torch.from_numpy(inputs.shares).to(tensor)
    return tensor
