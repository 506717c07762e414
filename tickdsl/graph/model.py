"""The model graph: the operators and parameters of a network, and how their dimensions are coupled. Needs no torch."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal, TypeVar

import attrs
import networkx as nx
import numpy as np

from tickdsl.errors import TickdslError
from tickdsl.graph.arrays import IntArray, from_runs, readonly_ints, to_runs
from tickdsl.plurals import plural

T = TypeVar("T")

FORMAT = 4

Role = Literal["producer", "consumer", "norm", "factor", "other"]
Shape = tuple[int, ...]


#: The kind of a group of dimensions within attention heads.
HEAD_DIMS = "head-dims"


class UnknownNameError(TickdslError):
    """A channel group or block that the network does not have."""


@attrs.frozen
class Slice:
    """The entries of one dimension of a parameter or buffer that belong to a channel group.

    `index[i]` of dimension `dim` belongs to unit `unit[i]` of the group. `role` is what the dimension does with the
    group: a producer computes it (output rows), a consumer reads it (input columns), a norm scales it. A factor is an
    additional role: zeroing these entries zeroes a product of two activations (the queries of attention, for example).
    """

    parameter: str
    dim: int
    role: Role
    index: IntArray = attrs.field(converter=readonly_ints, eq=attrs.cmp_using(eq=np.array_equal))
    unit: IntArray = attrs.field(converter=readonly_ints, eq=attrs.cmp_using(eq=np.array_equal))


@attrs.frozen
class ChannelGroup:
    """Units that can be removed one by one; a unit is a set of channels that must be removed together.

    `name` is the module path of the first producer. `size` counts units, and `step` is the largest number of producer
    channels in a unit. `producers` are the paths of the modules whose output channels these are. `exact` is False if
    removal changes the values of the remaining channels (a LayerNorm over the dimension). `reason` is why no unit can
    be removed; None if units can. `parts` are sets of units that the network reads alone, such as a slice of the
    channels; each keeps at least one unit.
    """

    name: str
    size: int
    step: int
    kind: str
    producers: tuple[str, ...]
    slices: tuple[Slice, ...]
    exact: bool = True
    reason: str | None = None
    parts: tuple[IntArray, ...] = attrs.field(default=(), eq=False)


@attrs.frozen
class Passage:
    """How the replacement of a module passes its input on: from one of its arguments to the first of its results.

    `argument` is the position of the argument, or its name if it was passed by name. `results` are the arguments that
    are returned after the first result, None for one that no other operator reads; None if the module returns a tensor.
    `container` is their type, `tuple` or `list`.
    """

    argument: int | str = 0
    results: tuple[int | str | None, ...] | None = None
    container: str = "tuple"


@attrs.frozen
class Block:
    """A single-entry, single-exit region of the network.

    `members` are the paths of the modules that are removed, and `replaced` those of the modules that become identities.
    `ties` pairs the channel groups at entry and exit, which are coupled once the block is removed. `reason` is why the
    block cannot be removed; None if it can. `passage` is set if its module takes or returns more than one tensor.
    """

    name: str
    entry: str
    exit: str
    members: tuple[str, ...]
    replaced: tuple[str, ...]
    parameters: tuple[str, ...]
    operators: tuple[str, ...]
    kind: str
    ties: tuple[tuple[str, str], ...] = ()
    reason: str | None = None
    parent: str | None = None
    passage: Passage | None = None


@attrs.frozen
class WeightInfo:
    """A weight of a convolution or matrix product; `is_output` marks the head, whose rows are the network's outputs."""

    module: str
    shape: Shape
    is_output: bool


@attrs.frozen
class LayoutRun:
    """Positions `index` along a dimension of a tensor, and the units of `group` that they belong to."""

    group: str
    index: IntArray = attrs.field(converter=readonly_ints, eq=attrs.cmp_using(eq=np.array_equal))
    unit: IntArray = attrs.field(converter=readonly_ints, eq=attrs.cmp_using(eq=np.array_equal))


@attrs.frozen
class Layout:
    """The positions along one dimension of a tensor: `size` in total, of which those in `runs` are removable."""

    size: int
    runs: tuple[LayoutRun, ...]


@attrs.frozen(eq=False, repr=False)
class ModelGraph:
    """A traced network.

    `graph` is a `networkx.DiGraph` whose edges follow the data. Operator nodes have `kind="operator"`, `op`, `module`
    (path), `shapes` (one per output), `dims` (per output and dimension, an index into `layouts`, or None for a fixed
    dimension), `scalars` (the numeric arguments of an element-wise operator), `itemsize`, `view`, `macs`
    (multiply-adds), `work` (`[factor, layout, …]`: the macs are the factor times the sizes of the layouts), `taken`
    (the positions that the operator selects by index, as tuples of dimension, layout and runs) and `train_only`.
    Nodes of `kind="constant"` are operators that depend on neither inputs nor parameters; they have no edges.
    Parameter nodes have `kind="parameter"` and `shape`; inputs and outputs have `kind="input"` and `"output"`.

    `parameters` and `buffers` map names to dense shapes. `aliases` maps the other names of shared tensors to the first
    one. `inputs` describes the example inputs. `unknown` lists the operators without a rule; the channels that they
    read are fixed.
    """

    graph: nx.DiGraph
    channels: tuple[ChannelGroup, ...]
    blocks: tuple[Block, ...]
    parameters: dict[str, Shape]
    buffers: dict[str, Shape]
    aliases: dict[str, str]
    weights: dict[str, WeightInfo]
    layouts: tuple[Layout, ...]
    inputs: Any
    unknown: tuple[str, ...] = ()

    def __repr__(self) -> str:
        free = sum(group.reason is None for group in self.channels)
        groups = f"{free} of {plural(len(self.channels), 'channel group')} removable"
        return f"<ModelGraph: {plural(len(self.weights), 'weight')}, {groups}, {plural(len(self.layers), 'layer')}>"

    @cached_property
    def _groups(self) -> dict[str, ChannelGroup]:
        return {group.name: group for group in self.channels}

    @cached_property
    def _blocks(self) -> dict[str, Block]:
        return {block.name: block for block in self.blocks}

    @cached_property
    def slices(self) -> Mapping[str, tuple[tuple[ChannelGroup, Slice], ...]]:
        """The removable slices of each parameter and buffer."""
        slices_by_tensor: dict[str, list[tuple[ChannelGroup, Slice]]] = {}
        for group in self.channels:
            if group.reason is None:
                for group_slice in group.slices:
                    slices_by_tensor.setdefault(group_slice.parameter, []).append((group, group_slice))
        return {name: tuple(group_slices) for name, group_slices in slices_by_tensor.items()}

    def group(self, name: str) -> ChannelGroup:
        """Look up a channel group by name. Raises UnknownNameError, which names the group of another producer."""
        return _lookup(self._groups, name, "channel group", self.groups_by_producer)

    @cached_property
    def groups_by_producer(self) -> Mapping[str, str]:
        """The name of the first group of each module that produces channels."""
        names: dict[str, str] = {}
        for group in self.channels:
            for producer in group.producers:
                names.setdefault(producer, group.name)
        return names

    def block(self, name: str) -> Block:
        """Look up a block by name. Raises UnknownNameError."""
        return _lookup(self._blocks, name, "block")

    @cached_property
    def layers(self) -> tuple[Block, ...]:
        """The units of `prune layers`: the smallest removable residual blocks, or plain layers if there are none.

        A block with weights outside its only inner block is a unit itself: a transformer layer whose attention is a
        residual module, and whose two further layers are not.
        """
        removable = [block for block in self.blocks if block.reason is None]
        blocks = [block for block in removable if block.kind == "residual"] or removable
        by_name = {block.name: block for block in blocks}
        inner: dict[str, list[Block]] = {}
        for block in blocks:
            parent = next((name for name in self._ancestors(block) if name in by_name), None)
            if parent is not None:
                inner.setdefault(parent, []).append(block)
        whole = {
            name
            for name, contents in inner.items()
            if len(contents) == 1 and by_name[name].kind == "residual"
            if not self._weights_of(by_name[name]) <= self._weights_of(contents[0])
        }
        outermost = {name for name in whole if not any(parent in whole for parent in self._ancestors(by_name[name]))}
        covered = {block.name for block in blocks if any(name in outermost for name in self._ancestors(block))}
        return tuple(
            block
            for block in blocks
            if block.name in outermost or (block.name not in covered and block.name not in inner)
        )

    def _weights_of(self, block: Block) -> set[str]:
        return self.weights.keys() & set(block.parameters)

    def _ancestors(self, block: Block) -> Iterator[str]:
        while block.parent is not None:
            yield block.parent
            block = self.block(block.parent)

    @cached_property
    def input_shapes(self) -> tuple[Shape, ...]:
        """The shapes of the example inputs' tensors, in the order of the input nodes."""
        return tuple(_shapes_in([*self.inputs["args"], *self.inputs["kwargs"].values()]))

    def shape_of_input(self, node: str) -> Shape:
        """The shape of the example input at an input node: `input`, `input1` and so on."""
        return self.input_shapes[int(node.removeprefix("input") or 0)]

    def shape(self, tensor: str) -> Shape:
        """The dense shape of a parameter or buffer."""
        return self.parameters[tensor] if tensor in self.parameters else self.buffers[tensor]

    def to_json(self) -> str:
        """Serialise the graph, without weights, for `from_json`."""
        return json.dumps(
            {
                "format": FORMAT,
                "nodes": [[name, data] for name, data in self.graph.nodes(data=True)],
                "edges": list(self.graph.edges),
                "channels": [attrs.asdict(group, value_serializer=_encode_array) for group in self.channels],
                "blocks": [attrs.asdict(block) for block in self.blocks],
                "parameters": self.parameters,
                "buffers": self.buffers,
                "aliases": self.aliases,
                "weights": {name: attrs.asdict(info) for name, info in self.weights.items()},
                "layouts": [attrs.asdict(layout, value_serializer=_encode_array) for layout in self.layouts],
                "inputs": self.inputs,
                "unknown": self.unknown,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> ModelGraph:
        """Read a graph written by `to_json`. Raises ValueError if the text is not a model graph of this format."""
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f"not a model graph of format {FORMAT}")
        graph = nx.DiGraph()
        graph.add_nodes_from((name, _node_from_json(node)) for name, node in data["nodes"])
        graph.add_edges_from(data["edges"])
        return cls(
            graph=graph,
            channels=tuple(_group_from_json(group) for group in data["channels"]),
            blocks=tuple(_block_from_json(block) for block in data["blocks"]),
            parameters=_shapes_from_json(data["parameters"]),
            buffers=_shapes_from_json(data["buffers"]),
            aliases=data["aliases"],
            weights={
                name: WeightInfo(**{**info, "shape": tuple(info["shape"])}) for name, info in data["weights"].items()
            },
            layouts=tuple(
                Layout(layout["size"], tuple(LayoutRun(**_decode_arrays(run)) for run in layout["runs"]))
                for layout in data["layouts"]
            ),
            inputs=data["inputs"],
            unknown=tuple(data["unknown"]),
        )


def _lookup(table: Mapping[str, T], name: str, kind: str, coupled: Mapping[str, str] | None = None) -> T:
    if name in table:
        return table[name]
    raise UnknownNameError(f"the network has no {kind} `{name}`", hint_for_unknown_name(name, table, coupled or {}))


def hint_for_unknown_name(name: str, names: Iterable[str], coupled: Mapping[str, str]) -> str | None:
    """What to write instead of an unknown name; `coupled` maps layers to the group that their channels belong to."""
    if name in coupled:
        return f"its channels belong to `{coupled[name]}`, and are removed together with that group's"
    suggestions = difflib.get_close_matches(name, names, n=1)
    return f"did you mean `{suggestions[0]}`?" if suggestions else None


def _shapes_in(values: Iterable[Any]) -> Iterator[Shape]:
    for value in values:
        if isinstance(value, list):
            yield from _shapes_in(value)
        elif isinstance(value, dict) and "dict" in value:
            yield from _shapes_in(value["dict"].values())
        elif isinstance(value, dict):
            yield tuple(value["shape"])


def _encode_array(_instance: object, _field: object, value: Any) -> Any:
    return to_runs(value) if isinstance(value, np.ndarray) else value


def _to_tuples(value: Any) -> Any:
    return tuple(_to_tuples(item) for item in value) if isinstance(value, list) else value


def _node_from_json(data: dict[str, Any]) -> dict[str, Any]:
    return {key: _to_tuples(value) for key, value in data.items()}


def _decode_arrays(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "index": from_runs(data["index"]), "unit": from_runs(data["unit"])}


def _group_from_json(data: dict[str, Any]) -> ChannelGroup:
    return ChannelGroup(
        **{
            **data,
            "producers": tuple(data["producers"]),
            "slices": tuple(Slice(**_decode_arrays(group_slice)) for group_slice in data["slices"]),
            "parts": tuple(from_runs(part) for part in data["parts"]),
        }
    )


def _block_from_json(data: dict[str, Any]) -> Block:
    passage = data["passage"]
    return Block(
        **{key: _to_tuples(value) for key, value in data.items() if key != "passage"},
        passage=None if passage is None else Passage(**{key: _to_tuples(value) for key, value in passage.items()}),
    )


def _shapes_from_json(data: dict[str, list[int]]) -> dict[str, Shape]:
    return {name: tuple(shape) for name, shape in data.items()}
