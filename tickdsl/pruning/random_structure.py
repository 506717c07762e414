"""A random structure that matches another one unit for unit: the control that shows whether the choice matters.

It removes as many layers of every shape, and keeps as many units of every channel group and as many weights of every
tensor, so it has exactly as many parameters. What the prunes left out with `in` and `except` is left out here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tickdsl.graph.model import Block, ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import with_compact_masks
from tickdsl.pruning.convolution_masks import convolution_masks
from tickdsl.pruning.remaining_units import remaining_groups, remaining_parts, remaining_units
from tickdsl.pruning.scope import layers_in_scope
from tickdsl.pruning.selection import guard_parts, lowest_positions, remaining_positions

#: `in` and `except` of a prune of layers, as in the arguments of its steps: `within` and `protect`.
LayerScope = Mapping[str, Any]


def random_structure(
    graph: ModelGraph,
    structure: Structure,
    generator: torch.Generator,
    layer_scopes: Sequence[LayerScope] = (),
    base: Structure | None = None,
    in_blocks: bool = False,
) -> Structure:
    """Draw a structure with the counts of `structure` from what `base` keeps (default: the dense network).

    in_blocks: the masks of convolutions consist of whole filters or dense blocks, and the drawn ones do so too: their
    filters, and the weights of a filter, are those of the mask in a random order.

    `layer_scopes` are those of the prunes that removed layers; a layer is exchanged only for one of the same shape that
    one of them could have removed. The layer that returns takes over the counts of the one that goes instead of it.
    """
    result = base = base or Structure.dense(graph)
    exchanged = _draw_exchanges(graph, structure, base, generator, layer_scopes)
    for block in sorted(structure.removed_blocks - base.removed_blocks):
        result = result.remove_block(exchanged.get(block, block))
    models = _corresponding_names(graph, exchanged)
    # Groups that removed layers tie together are drawn as one.
    for group in remaining_groups(graph, result):
        remaining = len(remaining_units(graph, structure, models.get(group.name, group.name)))
        units = remaining_units(graph, base, group.name)
        if remaining < len(units):
            ranks = torch.argsort(torch.randperm(len(units), generator=generator))
            scores = guard_parts(-ranks.double(), remaining_parts(group, units), minimum=0)
            result = result.remove(group.name, units[lowest_positions(scores, len(units) - remaining)])
    drawn = result.with_masks(_draw_masks(graph, structure, result, models, generator))
    return _with_blocks(graph, structure, drawn, models, generator) if in_blocks and not base.masks else drawn


def _draw_exchanges(
    graph: ModelGraph,
    structure: Structure,
    base: Structure,
    generator: torch.Generator,
    layer_scopes: Sequence[LayerScope],
) -> dict[str, str]:
    """Which layer goes instead of each removed one, {removed: goes instead}, for those that are exchanged."""
    alike_by_form: dict[tuple[Any, ...], list[str]] = {}
    for block in _candidates(graph, layer_scopes):
        if block.name not in base.removed_blocks:
            alike_by_form.setdefault(_form(graph, base, block), []).append(block.name)
    exchanged: dict[str, str] = {}
    for alike in alike_by_form.values():
        removed = [name for name in alike if name in structure.removed_blocks]
        if not removed:
            continue
        order = torch.randperm(len(alike), generator=generator)[: len(removed)].tolist()
        drawn = {alike[index] for index in order}
        returning = [name for name in removed if name not in drawn]
        going = [name for name in alike if name in drawn and name not in structure.removed_blocks]
        exchanged.update(zip(returning, going, strict=True))
    return exchanged


def _candidates(graph: ModelGraph, layer_scopes: Sequence[LayerScope]) -> list[Block]:
    """The layers that one of the prunes could have removed."""
    in_scope = {
        block.name
        for scope in layer_scopes
        for block in layers_in_scope(graph, scope.get("within"), scope.get("protect") or ())
    }
    return [block for block in graph.layers if block.name in in_scope]


def _form(graph: ModelGraph, base: Structure, block: Block) -> tuple[Any, ...]:
    """What exchangeable layers have in common: their kind and ties, and the sizes of their groups and tensors."""
    groups = tuple(
        (graph.group(name).size, len(remaining_units(graph, base, name))) for name in _inner_groups(graph, block)
    )
    tensors = tuple(
        (graph.shape(name), len(remaining_positions(graph, base, name)) if name in base.masks else None)
        for name in block.parameters
    )
    return block.kind, block.ties, groups, tensors


def _inner_groups(graph: ModelGraph, block: Block) -> list[str]:
    """The channel groups that only this layer produces."""
    members = set(block.members)
    return [group.name for group in graph.channels if group.producers and members.issuperset(group.producers)]


def _corresponding_names(graph: ModelGraph, exchanged: Mapping[str, str]) -> dict[str, str]:
    """For the groups and tensors of every layer that returns, those of the layer that goes instead of it."""
    pairs: dict[str, str] = {}
    for returning, going in exchanged.items():
        first, second = graph.block(returning), graph.block(going)
        pairs.update(zip(first.parameters, second.parameters, strict=True))
        pairs.update(zip(_inner_groups(graph, first), _inner_groups(graph, second), strict=True))
    return pairs


def _draw_masks(
    graph: ModelGraph,
    structure: Structure,
    result: Structure,
    models: Mapping[str, str],
    generator: torch.Generator,
) -> dict[str, np.ndarray]:
    masks = {}
    for name in _names_to_mask(structure, models):
        count = len(remaining_positions(graph, structure, models.get(name, name)))
        positions = remaining_positions(graph, result, name)
        drawn = torch.randperm(len(positions), generator=generator)[:count].numpy()
        mask = np.zeros(graph.parameters[name], dtype=bool)
        mask.reshape(-1)[positions[drawn]] = True
        masks[name] = mask
    return masks


def _with_blocks(
    graph: ModelGraph, structure: Structure, drawn: Structure, models: Mapping[str, str], generator: torch.Generator
) -> Structure:
    """The drawn structure with masks of convolutions whose filters and columns are those of `structure`, reordered."""
    masks = {}
    originals = {mask.name: mask for mask in convolution_masks(graph, structure)}
    for name in drawn.masks:
        mask = originals.get(models.get(name, name))
        if mask is not None:
            rows, columns = (torch.randperm(size, generator=generator) for size in mask.rows.shape)
            masks[name] = mask.folded(mask.rows[rows][:, columns])
    return with_compact_masks(graph, drawn, masks)


def _names_to_mask(structure: Structure, models: Mapping[str, str]) -> Iterable[str]:
    """The masked weights of the structure, without those of layers that go, and with those of layers that return."""
    gone = set(models.values())
    yield from (name for name in structure.masks if name not in gone and name not in models)
    yield from (name for name, model in models.items() if model in structure.masks)
