"""Blocks: single-entry, single-exit regions that can be replaced by an identity."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import attrs
import networkx as nx
import numpy as np

from tickdsl.graph.coupling.recording import ModuleCall, Recording
from tickdsl.graph.model import Block, ModelGraph


@attrs.frozen
class _Region:
    """A sequence of sibling module calls that maps `entry` to `exit`."""

    calls: tuple[ModuleCall, ...]
    entry: str
    exit: str
    operators: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.calls[0].path


def find_blocks(model: ModelGraph, recording: Recording) -> tuple[Block, ...]:
    """Find the removable blocks of a network, and their siblings that cannot be removed, with the reason.

    A region lies between a node that dominates all of it and a node that post-dominates all of it, and follows module
    boundaries, so that identities can replace its modules.
    """
    finder = _BlockFinder(model, recording)
    blocks: dict[tuple[str, ...], Block] = {}
    for chain in finder.chains():
        regions = [region for region in finder.regions(chain) if finder.has_weights(region)]
        reasons_by_region = [finder.removability(region) for region in regions]
        if any(reason is None for _, reason in reasons_by_region):
            for region, (ties, reason) in zip(regions, reasons_by_region, strict=True):
                blocks.setdefault(region.operators, finder.make_block(region, ties, reason))
    return _with_parents(sorted(blocks.values(), key=lambda block: finder.position[block.operators[0]]))


class _BlockFinder:
    def __init__(self, model: ModelGraph, recording: Recording) -> None:
        self.model, self.recording = model, recording
        self.operators = [operator.name for operator in recording.operators]
        self.position = {name: index for index, name in enumerate(self.operators)}
        self.calls = Counter(call.path for call in recording.calls)
        self.weighted_paths = {path for info in model.weights.values() for path in _ancestor_paths(info.module)}
        self.tensors: dict[str, list[str]] = defaultdict(list)
        for name in (*model.parameters, *model.buffers):
            self.tensors[name.rpartition(".")[0]].append(name)
        self.paths = sorted({*self.calls, *self.tensors})
        flow = model.graph.subgraph(
            [*self.operators, *(n for n, d in model.graph.nodes(data=True) if d["kind"] in ("input", "output"))]
        )
        self.dominators = _Dominators(flow, "input")
        self.post_dominators = _Dominators(flow.reverse(copy=False), "output")

    def chains(self) -> Iterator[list[ModuleCall]]:
        """Maximal chains of sibling module calls that feed each other directly; outer modules first."""
        children: dict[str, list[ModuleCall]] = defaultdict(list)
        for call in self.recording.calls:
            children[call.path.rpartition(".")[0]].append(call)
        for parent in sorted(children, key=lambda path: (path.count(".") + bool(path), path)):
            chain: list[ModuleCall] = []
            for call in sorted(children[parent], key=lambda call: (call.start, call.end)):
                if chain and not (_feeds(chain[-1], call) and call.start == chain[-1].end):
                    yield chain
                    chain = []
                chain.append(call)
            yield chain

    def regions(self, chain: Sequence[ModuleCall]) -> Iterator[_Region]:
        """Each module with weights, plus the following modules without (norms, activations) that keep its shape."""
        index = 0
        while index < len(chain):
            calls = [chain[index]]
            index += 1
            if not self._has_weights(calls[0]):
                continue
            if self._replaceable(calls[0]):
                while index < len(chain) and self._follows(chain[index], calls[-1]):
                    calls.append(chain[index])
                    index += 1
                if self._is_single_entry_exit(calls):
                    names = tuple(self.operators[calls[0].start : calls[-1].end])
                    yield _Region(tuple(calls), calls[0].inputs[0], calls[-1].outputs[0], names)
            elif (region := self._region_with_side_inputs(calls[0])) is not None:
                yield region

    def _region_with_side_inputs(self, call: ModuleCall) -> _Region | None:
        """The region of a residual module that takes or returns more than one tensor, such as a mask; None if not one.

        Its first result is the only one that other operators read.
        """
        if call.entry is None or call.exit is None or call.passage is None or self.calls[call.path] != 1:
            return None
        inside = self.operators[call.start : call.end]
        if call.entry in inside or call.exit not in inside:
            return None
        if not self._is_only_exit(call.exit, inside):
            return None
        region = _Region((call,), call.entry, call.exit, tuple(inside))
        return region if self._has_skip_path(region) else None

    def has_weights(self, region: _Region) -> bool:
        return any(self._has_weights(call) for call in region.calls)

    def _has_weights(self, call: ModuleCall) -> bool:
        return call.path in self.weighted_paths

    def _replaceable(self, call: ModuleCall) -> bool:
        return call.is_unary and self.calls[call.path] == 1 and call.end > call.start

    def _follows(self, call: ModuleCall, before: ModuleCall) -> bool:
        return (
            not self._has_weights(call)
            and self._replaceable(call)
            and len(call.inputs) == len(call.outputs) == 1
            and self._shape(call.outputs[0]) == self._shape(before.outputs[0])
        )

    def _is_single_entry_exit(self, calls: Sequence[ModuleCall]) -> bool:
        """Whether all operators of the calls lie between their entry and their exit."""
        if len(calls[0].inputs) != 1 or len(calls[-1].outputs) != 1:
            return False
        entry, exit_ = calls[0].inputs[0], calls[-1].outputs[0]
        inside = self.operators[calls[0].start : calls[-1].end]
        if entry in inside or exit_ not in inside:
            return False
        # Nodes computed from parameters alone have no entry; the exit ensures that they are only used inside.
        return all(n not in self.dominators or self.dominators.dominates(entry, n) for n in inside) and (
            self._is_only_exit(exit_, inside)
        )

    def _is_only_exit(self, exit_: str, inside: Sequence[str]) -> bool:
        """Whether nothing else of what is computed inside is used outside; some of it may not be used at all."""
        return all(self.post_dominators.dominates(exit_, n) for n in inside if n in self.post_dominators)

    def _shape(self, node: str) -> tuple[int, ...] | None:
        data = self.model.graph.nodes[node]
        return data["shapes"][0] if data["kind"] == "operator" else None

    def _dims(self, node: str) -> tuple[int | None, ...] | None:
        data = self.model.graph.nodes[node]
        return data["dims"][0] if data["kind"] == "operator" else None

    def removability(self, region: _Region) -> tuple[tuple[tuple[str, str], ...], str | None]:
        """The channel groups that removing the region ties, and why it cannot be removed (None if it can)."""
        ties, reason = self._ties(region)
        if reason is None:
            inside = set(region.operators)
            for name in self._tensors(self._members(region)):
                users = set(self.model.graph.successors(name)) if name in self.model.graph else set()
                if users - inside or name in self.model.aliases.values():
                    return ties, f"shares `{name}` with the rest of the network"
        return ties, reason

    def make_block(self, region: _Region, ties: tuple[tuple[str, str], ...], reason: str | None) -> Block:
        """Build the block of a region."""
        members = self._members(region)
        return Block(
            name=region.name,
            entry=region.entry,
            exit=region.exit,
            members=tuple(members),
            replaced=tuple(call.path for call in region.calls),
            parameters=tuple(self._tensors(members)),
            operators=region.operators,
            kind="residual" if self._has_skip_path(region) else "plain",
            ties=ties,
            reason=reason,
            passage=None if region.calls[0].is_unary else region.calls[0].passage,
        )

    def _members(self, region: _Region) -> list[str]:
        """The paths of the region's modules and of all their submodules."""
        members = []
        for call in region.calls:
            first = bisect_left(self.paths, f"{call.path}.")
            last = bisect_left(self.paths, f"{call.path}/")
            members += [call.path, *self.paths[first:last]]
        return members

    def _tensors(self, members: Sequence[str]) -> list[str]:
        return [name for path in members for name in self.tensors.get(path, ())]

    def _has_skip_path(self, region: _Region) -> bool:
        """Whether some path from entry to exit passes no weight and no gate, and carries at least half of the entry."""
        inside = set(region.operators)
        half = self._size(region.entry) / 2
        weightless = [n for n in inside if not self._multiplies(n) and not self._gates(n) and self._size(n) >= half]
        graph = self.model.graph.subgraph([*weightless, region.entry])
        return region.exit in graph and nx.has_path(graph, region.entry, region.exit)

    def _multiplies(self, node: str) -> bool:
        return any(parent in self.model.weights for parent in self.model.graph.predecessors(node)) or bool(
            self.model.graph.nodes[node]["macs"]
        )

    def _size(self, node: str) -> int:
        return math.prod(self._shape(node) or ())

    def _gates(self, node: str) -> bool:
        """Whether an operator multiplies two activations, as squeeze-and-excitation does."""
        data = self.model.graph.nodes[node]
        operands = [parent for parent in self.model.graph.predecessors(node) if parent in self.position]
        return data["op"] in ("mul", "div") and len(operands) > 1

    def _ties(self, region: _Region) -> tuple[tuple[tuple[str, str], ...], str | None]:
        """The groups that are coupled once the region is removed, and why it cannot be removed."""
        before, after = self._shape(region.entry), self._shape(region.exit)
        if before is None or after is None:
            return (), "reads the network's input"
        if before != after:
            return (), f"maps {_format_shape(before)} to {_format_shape(after)}"
        ties = []
        for entry_layout, exit_layout in zip(
            self._dims(region.entry) or (), self._dims(region.exit) or (), strict=True
        ):
            if entry_layout != exit_layout:
                pairs = _paired_groups(self.model, entry_layout, exit_layout)
                if not pairs:
                    return (), "its input and output channels do not match"
                ties += pairs
        return tuple(ties), None


def _feeds(before: ModuleCall, call: ModuleCall) -> bool:
    return call.inputs == before.outputs or (call.entry is not None and call.entry == before.exit)


def _paired_groups(model: ModelGraph, entry_layout: int | None, exit_layout: int | None) -> list[tuple[str, str]]:
    """Pair the groups of two layouts whose units are at the same positions and cover all of them; [] otherwise.

    There are two pairs if the layouts have heads and their dims.
    """
    if entry_layout is None or exit_layout is None:
        return []
    entry, exit_ = model.layouts[entry_layout], model.layouts[exit_layout]
    if len(entry.runs) != len(exit_.runs):
        return []
    for entry_run, exit_run in zip(entry.runs, exit_.runs, strict=True):
        covers_layout = len(entry_run.index) == entry.size and len(exit_run.index) == exit_.size
        sizes = [model.group(run.group).size for run in (entry_run, exit_run)]
        if not covers_layout or sizes[0] != sizes[1] or not np.array_equal(entry_run.unit, exit_run.unit):
            return []
    return [(entry_run.group, exit_run.group) for entry_run, exit_run in zip(entry.runs, exit_.runs, strict=True)]


def _format_shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape[1:]))


def _ancestor_paths(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition(".")[0]


def _spans(tree: nx.DiGraph) -> dict[str, tuple[int, int]]:
    """The preorder index of each node and the last index below it: a node's ancestors are the spans around it."""
    spans: dict[str, tuple[int, int]] = {}
    preorder: dict[str, int] = {}
    if "" in tree:
        for _, node, label in nx.dfs_labeled_edges(tree, ""):
            if label == "forward":
                preorder[node] = len(preorder)
            elif label == "reverse":
                spans[node] = preorder[node], len(preorder) - 1
    return spans


class _Dominators:
    """The dominator tree of a graph, from all nodes of kind `root_kind`."""

    def __init__(self, graph: nx.DiGraph, root_kind: str) -> None:
        rooted = nx.DiGraph(graph.edges)
        for node in [n for n, d in graph.nodes(data=True) if d["kind"] == root_kind]:
            rooted.add_edge("", node)
        tree = nx.DiGraph()
        if "" in rooted:
            immediate = nx.immediate_dominators(rooted, "").items()
            tree.add_edges_from(
                (dominator, node) for node, dominator in immediate if dominator is not None and dominator != node
            )
        self._spans_by_node = _spans(tree)

    def __contains__(self, node: str) -> bool:
        return node in self._spans_by_node

    def dominates(self, upper: str, node: str) -> bool:
        """Whether every path from a root to `node` passes `upper`."""
        if upper not in self._spans_by_node or node not in self._spans_by_node:
            return False
        (start, end), (position, _) = self._spans_by_node[upper], self._spans_by_node[node]
        return start <= position <= end


def _with_parents(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Set the parent of each block to the smallest block that contains it."""
    operator_sets = [frozenset(block.operators) for block in blocks]
    result = []
    for block, operators in zip(blocks, operator_sets, strict=True):
        enclosing = [(len(other), blocks[index].name) for index, other in enumerate(operator_sets) if operators < other]
        result.append(attrs.evolve(block, parent=min(enclosing)[1] if enclosing else None))
    return tuple(result)
