"""Stretch or squeeze a ticket: carry its weights and masks to a deeper or shallower network of the same family.

Chen et al. 2021, "The Elastic Lottery Ticket Hypothesis". A stage is a run of blocks of one width. Its first block, B0,
may change the shape and always goes to B0; the stem and the head are copied. Stretching fills the places of the other
blocks with copies of as many different blocks as there are, in the order `append` (B1 B2 B1 B2) or `interpolate` (B1 B1
B2 B2). Squeezing drops blocks and keeps the order of the others. Blocks are residual blocks, convolutions with their
batch norm (VGG), or linear layers, whose width may differ as well. Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph, Shape
from tickdsl.plurals import plural
from tickdsl.pruning.elastic_units import UnitMap, UnitMaps, unit_maps
from tickdsl.pruning.patterns import matches

#: How a block's place is written in the names of modules: `layer2.1.conv1`, `conv3_2`, `fc2`.
_RESIDUAL = re.compile(r"((layer\d+)\.(\d+))\.")
_VGG = re.compile(r"((conv|bn)(\d+)_(\d+))\.")
_LINEAR = re.compile(r"(fc(\d+))\.weight$")
#: The words for which blocks a squeeze drops, besides a list of them.
LAST, ALTERNATE = "last", "alternate"


class ElasticError(TickdslError):
    """Two networks between which no ticket can be carried, or blocks that cannot be dropped."""


@attrs.frozen
class Block:
    """A block: the modules that hold its weights, and its number in its stage, from 0."""

    modules: tuple[str, ...]
    number: int

    @property
    def name(self) -> str:
        """What the block is called: its first module."""
        return self.modules[0]


#: The blocks of a network by stage, in order.
Stages = Mapping[str, tuple[Block, ...]]


@attrs.frozen
class BlockMap:
    """Where every block of the target comes from: by stage, pairs of (source, target), in the target's order.

    `units` are the neurons that those of parameters of another width come from, by the target's names.
    """

    stages: Mapping[str, tuple[tuple[Block, Block], ...]]
    units: Mapping[str, UnitMaps] = attrs.field(factory=dict)

    @cached_property
    def sources(self) -> dict[str, str]:
        """The module of the source for every module of a block of the target."""
        return {
            there: here
            for pairs in self.stages.values()
            for source, target in pairs
            for here, there in zip(source.modules, target.modules, strict=True)
        }

    def source_of(self, name: str) -> str:
        """The name in the source of a module, a weight, a buffer or a block of the target."""
        parts = name.split(".")
        for count in range(len(parts), 0, -1):
            if (source := self.sources.get(".".join(parts[:count]))) is not None:
                return ".".join([source, *parts[count:]])
        return name

    @cached_property
    def layer_units(self) -> dict[str, UnitMap]:
        """The neurons that those of each layer of another width come from."""
        return {
            name.removesuffix(".weight"): maps[0]
            for name, maps in self.units.items()
            if name.endswith(".weight") and maps[0] is not None
        }

    def __str__(self) -> str:
        """The blocks that come to each stage, and the neurons: `stage 1: B0 B1 B1; 30 neurons become 60`."""
        stages_by_order: dict[str, list[str]] = {}
        for stage, pairs in self.stages.items():
            stages_by_order.setdefault(" ".join(f"B{source.number}" for source, _ in pairs), []).append(stage)
        blocks = [f"{', '.join(stages)}: {order}" for order, stages in stages_by_order.items()]
        neurons = dict.fromkeys(str(maps[0]) for maps in self.units.values() if maps[0] is not None)
        return "; ".join([*blocks, *neurons])


def stretch(source: Stages, target: Stages, order: str) -> BlockMap:
    """Fill the stages of a deeper network. Raises ElasticError if a stage gets shorter, or has no block to copy."""
    return _map_stages(source, target, lambda stage, count: _replicate(stage, source[stage], count, order))


def squeeze(source: Stages, target: Stages, drop: str | Sequence[str] = LAST) -> BlockMap:
    """Fill the stages of a shallower network.

    drop: the `last` blocks of every stage, every other one (`alternate`: as evenly as possible), or patterns of the
    blocks to drop. Raises ElasticError if a stage gets longer, or the patterns drop another number of blocks.
    """
    if not isinstance(drop, str):
        _require_matches(source, drop)
    return _map_stages(source, target, lambda stage, count: _keep(stage, source[stage], count, drop))


def _map_stages(source: Stages, target: Stages, places: Any) -> BlockMap:
    if source.keys() != target.keys():
        raise ElasticError(f"their stages are {', '.join(source)} and {', '.join(target)}")
    return BlockMap(
        {
            stage: tuple(zip([source[stage][index] for index in places(stage, len(blocks))], blocks, strict=True))
            for stage, blocks in target.items()
        }
    )


def _replicate(stage: str, blocks: Sequence[Block], count: int, order: str) -> list[int]:
    """The numbers of the blocks that come to the `count` places of a stage."""
    known = len(blocks) - 1
    if count < len(blocks):
        raise ElasticError(f"{stage} has {plural(len(blocks), 'block')}, and only {count} there", "use `squeeze`")
    if count > len(blocks) and not known:
        raise ElasticError(f"{stage} has no block besides its first one, which is not replicated")
    numbers = [1 + place % known for place in range(count - 1)] if known else []
    return [0, *(numbers if order == "append" else sorted(numbers))]


def _keep(stage: str, blocks: Sequence[Block], count: int, drop: str | Sequence[str]) -> list[int]:
    """The numbers of the blocks that stay in a stage."""
    known = len(blocks) - 1
    if count > len(blocks):
        raise ElasticError(f"{stage} has {plural(len(blocks), 'block')}, and {count} there", "use `stretch`")
    if drop == LAST:
        return list(range(count))
    if drop == ALTERNATE:  # of 4 blocks that are not the first, 2 stay: the first and the third
        return [0, *(1 + place * known // (count - 1) for place in range(count - 1))]
    kept = [block.number for block in blocks if not any(matches(pattern, block.name) for pattern in drop)]
    if 0 not in kept:
        raise ElasticError(f"`drop=` names {blocks[0].name}, the first block of its stage, which stays")
    if len(kept) != count:
        dropped, needed = len(blocks) - len(kept), len(blocks) - count
        raise ElasticError(f"`drop=` names {plural(dropped, 'block')} of {stage}, and {needed} have to go")
    return kept


def _require_matches(source: Stages, patterns: Iterable[str]) -> None:
    blocks = [block.name for stage in source.values() for block in stage]
    for pattern in patterns:
        if not any(matches(pattern, name) for name in blocks):
            raise ElasticError(f'`drop=` names "{pattern}", which is no block', f"its blocks are {', '.join(blocks)}")


def stages_of(graph: ModelGraph) -> Stages:
    """The blocks of a network by stage. Raises ElasticError if it is of no family with blocks to replicate."""
    names = list(graph.parameters)
    for find in (_residual_stages, _vgg_stages):
        if stages := find(names):
            return stages
    linear = {name.removesuffix(".weight"): shape for name, shape in graph.parameters.items() if _LINEAR.match(name)}
    if len(linear) > 1 and all(name.rpartition(".")[0] in linear for name in names):
        return _linear_stages(linear)
    raise ElasticError(
        "it has no blocks to replicate or drop", "use CIFAR ResNets, VGGs, or `lenet-300-100` with another `depth=`"
    )


def _residual_stages(names: Iterable[str]) -> Stages:
    found = dict.fromkeys(match.groups() for name in names if (match := _RESIDUAL.match(name)))
    stages: dict[str, list[Block]] = {}
    for module, stage, number in found:
        stages.setdefault(stage, []).append(Block((module,), int(number)))
    return {stage: tuple(blocks) for stage, blocks in stages.items()}


def _vgg_stages(names: Iterable[str]) -> Stages:
    modules: dict[tuple[str, int], list[str]] = {}
    for name in names:
        if match := _VGG.match(name):
            module, _, stage, number = match.groups()
            members = modules.setdefault((f"stage {stage}", int(number) - 1), [])
            if module not in members:
                members.append(module)
    stages: dict[str, list[Block]] = {}
    for (stage, number), members in modules.items():
        stages.setdefault(stage, []).append(Block(tuple(members), number))
    return {stage: tuple(blocks) for stage, blocks in stages.items()}


def _linear_stages(shapes: Mapping[str, Shape]) -> Stages:
    """Consecutive linear layers of one width are a stage; the head is one of its own."""
    stages: list[list[Block]] = []
    width = None
    *_, head = shapes
    for module, shape in shapes.items():
        if shape[0] != width or module == head:
            width = shape[0]
            stages.append([])
        stages[-1].append(Block((module,), len(stages[-1])))
    return {f"stage {number}": tuple(blocks) for number, blocks in enumerate(stages, start=1)}


def block_map(source: ModelGraph, target: ModelGraph, rule: Mapping[str, Any]) -> BlockMap:
    """Which block of one network goes where in another.

    rule: `order` of a stretch, or `drop` of a squeeze. Raises ElasticError if no ticket can be carried: other families
    or widths, no block to copy, or a direction that is not the rule's.
    """
    ours, theirs = stages_of(source), stages_of(target)
    order = rule.get("order")
    mapping = squeeze(ours, theirs, rule["drop"]) if order is None else stretch(ours, theirs, order)
    if source.parameters == target.parameters:
        raise ElasticError("they have the same blocks, so there is nothing to change")
    origins = {name: mapping.source_of(name) for name in (*target.parameters, *target.buffers)}
    if _is_linear(source) and _is_linear(target):
        _require_widths(source, target, origins, order is not None)
        return attrs.evolve(mapping, units=unit_maps(source.parameters, target.parameters, origins, rule))
    known = {**source.parameters, **source.buffers}
    for name, shape in {**target.parameters, **target.buffers}.items():
        other = origins[name]
        if known.get(other) != shape:
            here = "missing" if other not in known else "×".join(map(str, known[other]))
            raise ElasticError(f"`{name}` is {'×'.join(map(str, shape))} there, and `{other}` {here} here")
    return mapping


def _is_linear(graph: ModelGraph) -> bool:
    """Whether a network consists of linear layers in a row, whose neurons can be copied."""
    return all(_LINEAR.match(name) or name.endswith(".bias") for name in graph.parameters)


def _require_widths(source: ModelGraph, target: ModelGraph, origins: Mapping[str, str], grows: bool) -> None:
    """Raise ElasticError unless all layers change their widths in the direction of the verb, or in none."""
    for name, shape in target.parameters.items():
        here = source.parameters[origins[name]][0]
        if (shape[0] < here) if grows else (shape[0] > here):
            which, verb = ("only ", "squeeze") if grows else ("", "stretch")
            layer, there = origins[name].rpartition(".")[0], name.rpartition(".")[0]
            message = f"{layer} has {plural(here, 'neuron')}, and {there} {which}{shape[0]} there"
            raise ElasticError(message, f"use `{verb}`, or the same `width=`")
