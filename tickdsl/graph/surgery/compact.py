"""Physical pruning: turns a dense network and a structure into a smaller ordinary network that computes the same."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tickdsl.gc_control import gc_disabled
from tickdsl.graph.arrays import IntArray
from tickdsl.graph.costs import layout_sizes
from tickdsl.graph.indexing import all_kept_indices, kept_units, removed_parameters, slice_array
from tickdsl.graph.model import ModelGraph, Passage
from tickdsl.graph.structure import Structure, StructureError
from tickdsl.graph.surgery.hardcoded_sizes import repair_hardcoded_sizes
from tickdsl.graph.surgery.layer_attributes import update_layer_attributes
from tickdsl.graph.surgery.masked_norms import normalise_over_kept_channels
from tickdsl.graph.surgery.stale_caches import clear_tensor_caches
from tickdsl.graph.tracing.module_copy import deepcopy_model, replace_module

KeptIndices = list[IntArray | None]


@gc_disabled()
def compact(model: nn.Module, graph: ModelGraph, structure: Structure) -> nn.Module:
    """Build the network without the removed units and blocks; its weights are slices of the model's, masks applied.

    `model` is the dense network that `graph` was traced from; it is not changed. Submodules and parameters keep their
    names. Raises StructureError if the structure belongs to another network, and SurgeryError if the network's code
    cannot run with the remaining sizes.
    """
    tensors = _dense_tensors(model, graph)
    indices = all_kept_indices(graph, structure)
    memo: dict[int, Any] = {}
    for name, tensor in tensors.items():
        kept = indices.get(name)
        if kept is None and name not in structure.masks:
            continue
        data = slice_tensor(tensor.detach(), kept)
        if name in structure.masks:
            data = data * torch.from_numpy(slice_array(structure.masks[name], kept or []).copy()).to(data.device)
        memo[id(tensor)] = nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data
    compact_model = deepcopy_model(model, memo)
    clear_tensor_caches(compact_model, model, graph)
    _bypass_removed_blocks(compact_model, graph, structure)
    sizes = layout_sizes(graph, structure)
    for path, module in compact_model.named_modules():
        update_layer_attributes(module, path, graph, indices, sizes)
    return repair_hardcoded_sizes(model, compact_model, graph, structure)


def zeroed_copy(model: nn.Module, graph: ModelGraph, structure: Structure) -> nn.Module:
    """Copy the dense network and zero the weights that read removed channels: the reference for `compact`.

    The product of queries and keys has no weights; for removed dims, one of its factors is zeroed: the queries if no
    operator between their weights and the product maps zero to something else, otherwise the keys. torch's own layer
    and RMS norms use the kept channels for their statistics. Raises StructureError if `model` is not the dense network.
    """
    _dense_tensors(model, graph)
    zeroed = copy.deepcopy(model)
    clear_tensor_caches(zeroed, model, graph)
    tensors = _named_tensors(zeroed)
    kept_masks = kept_units(graph, structure)
    with torch.no_grad():
        for name, mask in structure.masks.items():
            tensors[name] *= torch.from_numpy(mask.copy()).to(tensors[name].device)
        for group in graph.channels:
            if group.name in kept_masks:
                for group_slice in group.slices:
                    if group_slice.role in ("consumer", "factor"):
                        removed = torch.from_numpy(group_slice.index[~kept_masks[group.name][group_slice.unit]])
                        tensors[group_slice.parameter].index_fill_(
                            group_slice.dim, removed.to(tensors[group_slice.parameter].device), 0
                        )
    normalise_over_kept_channels(zeroed, graph, structure)
    _bypass_removed_blocks(zeroed, graph, structure)
    return zeroed


#: The name of `zeroed_copy` in earlier versions.
silence = zeroed_copy


class CloneIdentity(nn.Identity):
    """Replaces the last module of a removed block: returns a copy of its input, since later code may write to it."""

    def forward(self, input: Tensor) -> Tensor:
        """Return a copy of the input."""
        return input.clone()


class BypassedModule(nn.Module):
    """Replaces a removed block that takes or returns more than one tensor: passes its input on as the first result."""

    def __init__(self, passage: Passage) -> None:
        super().__init__()
        self.passage = passage

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return a copy of the input, in a container like the block's."""
        arguments: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
        value = arguments[self.passage.argument].clone()
        if self.passage.results is None:
            return value
        results = [value, *(None if key is None else arguments[key] for key in self.passage.results)]
        return tuple(results) if self.passage.container == "tuple" else results


def _bypass_removed_blocks(model: nn.Module, graph: ModelGraph, structure: Structure) -> None:
    """Replace removed blocks by identities; of nested blocks, only the outermost."""
    replaced = [graph.block(block).replaced for block in structure.removed_blocks]
    passages = {graph.block(block).replaced[0]: graph.block(block).passage for block in structure.removed_blocks}
    paths, ends = {path for chain in replaced for path in chain}, {chain[-1] for chain in replaced}
    for path in paths:
        if not any(path.startswith(f"{other}.") for other in paths):
            passage = passages.get(path)
            if passage is not None:
                identity: nn.Module = BypassedModule(passage)
            else:
                identity = CloneIdentity() if path in ends else nn.Identity()
            own = vars(identity).keys() - {"training"}
            for name, value in vars(model.get_submodule(path)).items():
                if isinstance(value, int | float | str | tuple) and not name.startswith("_") and name not in own:
                    setattr(identity, name, value)  # surrounding code may read it, such as a stride
            replace_module(model, path, identity)


def slice_state_dict(
    graph: ModelGraph, state: Mapping[str, Tensor], source: Structure, target: Structure
) -> dict[str, Tensor]:
    """Slice the state dict of `compact(source)` to that of `compact(target)`.

    Raises StructureError if `target` keeps something that `source` does not.
    """
    before, after = all_kept_indices(graph, source), all_kept_indices(graph, target)
    missing, removed = removed_parameters(graph, source), removed_parameters(graph, target)
    if missing - removed:
        raise StructureError("the target structure keeps a block that these weights do not have")
    result = {}
    for name, tensor in state.items():
        canonical_name = graph.aliases.get(name, name)
        if canonical_name not in removed:
            result[name] = slice_tensor(
                tensor,
                _relative_indices(canonical_name, before.get(canonical_name), after.get(canonical_name), tensor.ndim),
            ).clone()
    return result


def full_state_dict(graph: ModelGraph, state: Mapping[str, Tensor], structure: Structure) -> dict[str, Tensor]:
    """The state dict of `compact(structure)` in the shapes of the dense network, with 0 where something is removed.

    Parameters and buffers of removed blocks stay away.
    """
    kept, result = all_kept_indices(graph, structure), {}
    for name, tensor in state.items():
        canonical_name = graph.aliases.get(name, name)
        indices = kept.get(canonical_name)
        if indices is None:
            result[name] = tensor
            continue
        shape = graph.shape(canonical_name)
        whole = tensor.new_zeros(shape)
        places = np.ix_(*(np.arange(n) if k is None else k for n, k in zip(shape, indices, strict=True)))
        whole[tuple(torch.from_numpy(place.copy()) for place in places)] = tensor
        result[name] = whole
    return result


def compact_masks(graph: ModelGraph, structure: Structure) -> dict[str, Tensor]:
    """The masks of the remaining weights, in the shapes of the compact network."""
    indices = all_kept_indices(graph, structure)
    removed = removed_parameters(graph, structure)
    masks = {}
    for name, mask in structure.masks.items():
        if name not in removed:
            masks[name] = torch.from_numpy(slice_array(mask, indices.get(name, [None] * mask.ndim)).copy())
    return masks


def with_compact_masks(graph: ModelGraph, structure: Structure, masks: Mapping[str, Tensor]) -> Structure:
    """The structure with other masks, given in the shapes of its compact network (True: kept).

    Weights without a mask here keep theirs, and so do entries that the structure removes.
    """
    indices = all_kept_indices(graph, structure)
    dense: dict[str, np.ndarray] = {}
    for name, mask in masks.items():
        before = structure.masks.get(name)
        whole = np.ones(graph.parameters[name], dtype=bool) if before is None else before.copy()
        kept = indices.get(name, [None] * whole.ndim)
        places = np.ix_(*(np.arange(n) if k is None else k for n, k in zip(whole.shape, kept, strict=True)))
        whole[places] = mask.cpu().numpy()
        dense[name] = whole
    return structure.with_masks(dense)


def slice_tensor(tensor: Tensor, kept: KeptIndices | None) -> Tensor:
    """Select the kept indices of each dimension of a tensor."""
    for dim, index in enumerate(kept or ()):
        if index is not None:
            tensor = tensor.index_select(dim, torch.from_numpy(index.copy()).to(tensor.device))
    return tensor


def _dense_tensors(model: nn.Module, graph: ModelGraph) -> dict[str, Tensor]:
    """The model's parameters and buffers. Raises StructureError if they are not those that were traced."""
    tensors = _named_tensors(model)
    for name in dict.fromkeys((*graph.parameters, *graph.slices)):
        shape = graph.shape(name)
        if name not in tensors:
            raise StructureError(f"{type(model).__name__} has no `{name}`, which the traced network has", _DENSE_CURE)
        if tuple(tensors[name].shape) != shape:
            sizes = ["×".join(map(str, size)) or "a scalar" for size in (tensors[name].shape, shape)]
            raise StructureError(f"`{name}` is {sizes[0]}, in the traced network {sizes[1]}", _DENSE_CURE)
    return tensors


_DENSE_CURE = "pass the dense network that was traced; a compact network needs a graph of its own"


def _named_tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _relative_indices(name: str, before: KeptIndices | None, after: KeptIndices | None, rank: int) -> KeptIndices:
    """The positions of the indices `after` among the indices `before`, by dimension."""
    result: KeptIndices = []
    for old, new in zip(before or [None] * rank, after or [None] * rank, strict=True):
        if old is None:
            result.append(new)
        elif new is None or not np.isin(new, old).all():
            raise StructureError(f"the target structure keeps parts of `{name}` that these weights do not have")
        else:
            result.append(np.searchsorted(old, new))
    return result
