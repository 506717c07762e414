"""A network of the user's own while it is pruned: its graph, its masks, and what it becomes with a structure."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from tickdsl.api.torch_masks import attach_masks, copy_without_masks, has_masks, unmasked_tensors
from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact, compact_masks
from tickdsl.graph.tracing.trace import trace

#: Tensors by name, as a network without masks has them.
State = Mapping[str, Tensor]

_structures: weakref.WeakKeyDictionary[nn.Module, Structure] = weakref.WeakKeyDictionary()


@attrs.frozen(eq=False)
class DenseSubject:
    """A dense network, which is not changed, its graph, and the structure that it starts from: all of it but masks."""

    network: nn.Module
    graph: ModelGraph
    structure: Structure

    @classmethod
    def from_model(cls, model: nn.Module, example_inputs: Any) -> DenseSubject:
        """Trace a network; if it has masks of `torch.nn.utils.prune`, a copy without them.

        Raises TraceError if it cannot be traced.
        """
        network, masks = copy_without_masks(model) if has_masks(model) else (model, {})
        graph = trace(network, example_inputs)
        structure = Structure.dense(graph)
        if masks:
            structure = structure.with_masks({graph.aliases.get(name, name): mask for name, mask in masks.items()})
        return cls(network, graph, structure)

    def without_masks(self, structure: Structure, state: State | None = None) -> nn.Module:
        """The compact network with the values behind its masks: the dense network's, or those of `state`."""
        network = compact(self.network, self.graph, attrs.evolve(structure, masks={}))
        if state is not None:
            with torch.no_grad():
                for name, tensor in unmasked_tensors(network).items():
                    tensor.copy_(state[name])
        return network

    def with_zeros(self, structure: Structure, state: State | None = None) -> nn.Module:
        """The compact network with its masked weights set to zero."""
        network = self.without_masks(structure, state)
        parameters = dict(network.named_parameters())
        with torch.no_grad():
            for name, mask in compact_masks(self.graph, structure).items():
                parameters[name].mul_(mask.to(parameters[name]))
        return network

    def with_masks(self, structure: Structure, state: State | None = None) -> nn.Module:
        """The compact network, whose weights are masked by `torch.nn.utils.prune`."""
        network = self.without_masks(structure, state)
        attach_masks(network, compact_masks(self.graph, structure))
        _structures[network] = structure
        return network


def structure_of(network: nn.Module) -> Structure:
    """What a network that `prune` or `from_masks` returned keeps of the dense one.

    It can be saved, and applied to the dense network again:

        from tickdsl.graph import Structure, compact, trace

        tickdsl.structure_of(small).save("structure.safetensors")
        structure = Structure.load("structure.safetensors")
        small = compact(dense, trace(dense, example_inputs), structure)

    Args:
        network: The network as it was returned; a copy of it has no structure.

    Raises:
        TickdslError: The network was not returned by `prune` or `from_masks`.
    """
    if network not in _structures:
        raise TickdslError(
            "this network has no structure: it was not returned by `tickdsl.prune` or `tickdsl.from_masks`",
            "of a copied or loaded network, keep the structure of the first one",
        )
    return _structures[network]
