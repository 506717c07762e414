"""Blocks: single-entry, single-exit regions that can be taken out whole, leaving an identity."""

from __future__ import annotations

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
    """A run of sibling modules in a chain, as one step from `entry` to `exit`."""

    calls: tuple[ModuleCall, ...]
    entry: str
    exit: str
    operators: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.calls[0].path


def find_blocks(model: ModelGraph, recording: Recording) -> tuple[Block, ...]:
    """The removable blocks of a network, and their siblings that cannot go, with the reason.

    A region runs from a value that dominates all of it to a value that post-dominates all of it, along module
    boundaries, so that identities can take its place.
    """
    finder = _Finder(model, recording)
    found: dict[tuple[str, ...], Block] = {}
    for chain in finder.chains():
        regions = [region for region in finder.regions(chain) if finder.has_weights(region)]
        verdicts = [finder.verdict(region) for region in regions]
        if any(reason is None for _, reason in verdicts):
            for region, (ties, reason) in zip(regions, verdicts, strict=True):
                found.setdefault(region.operators, finder.block(region, ties, reason))
    return _related(sorted(found.values(), key=lambda block: finder.position[block.operators[0]]))


class _Finder:
    def __init__(self, model: ModelGraph, recording: Recording) -> None:
        self.model, self.recording = model, recording
        self.operators = [operator.name for operator in recording.operators]
        self.position = {name: place for place, name in enumerate(self.operators)}
        self.calls = Counter(call.path for call in recording.calls)
        self.weighted = {path for info in model.weights.values() for path in _upwards(info.module)}
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
        """Calls of the children of one module, those that feed each other directly in one chain; outer ones first."""
        children: dict[str, list[ModuleCall]] = defaultdict(list)
        for call in self.recording.calls:
            children[call.path.rpartition(".")[0]].append(call)
        for parent in sorted(children, key=lambda path: (path.count(".") + bool(path), path)):
            chain: list[ModuleCall] = []
            for call in sorted(children[parent], key=lambda call: (call.start, call.end)):
                if chain and not (call.inputs == chain[-1].outputs and call.start == chain[-1].end):
                    yield chain
                    chain = []
                chain.append(call)
            yield chain

    def regions(self, chain: Sequence[ModuleCall]) -> Iterator[_Region]:
        """Every module with weights, and the modules without (norms, activations) that follow it at equal shape."""
        place = 0
        while place < len(chain):
            run = [chain[place]]
            place += 1
            if self._has_weights(run[0]) and self._replaceable(run[0]):
                while place < len(chain) and self._follows(chain[place], run[-1]):
                    run.append(chain[place])
                    place += 1
                if self._is_step(run):
                    names = tuple(self.operators[run[0].start : run[-1].end])
                    yield _Region(tuple(run), run[0].inputs[0], run[-1].outputs[0], names)

    def has_weights(self, region: _Region) -> bool:
        return any(self._has_weights(call) for call in region.calls)

    def _has_weights(self, call: ModuleCall) -> bool:
        return call.path in self.weighted

    def _replaceable(self, call: ModuleCall) -> bool:
        return call.plain and self.calls[call.path] == 1 and call.end > call.start

    def _follows(self, call: ModuleCall, before: ModuleCall) -> bool:
        return (
            not self._has_weights(call)
            and self._replaceable(call)
            and len(call.inputs) == len(call.outputs) == 1
            and self._shape(call.outputs[0]) == self._shape(before.outputs[0])
        )

    def _is_step(self, run: Sequence[ModuleCall]) -> bool:
        """Whether all of the run lies between its entry and its exit."""
        if len(run[0].inputs) != 1 or len(run[-1].outputs) != 1:
            return False
        entry, exit_ = run[0].inputs[0], run[-1].outputs[0]
        inside = self.operators[run[0].start : run[-1].end]
        if entry in inside or exit_ not in inside:
            return False
        # What is computed of parameters alone has no entry; that it is used inside only, the exit says.
        return all(
            (n not in self.dominators or self.dominators.above(entry, n)) and self.post_dominators.above(exit_, n)
            for n in inside
        )

    def _shape(self, node: str) -> tuple[int, ...] | None:
        data = self.model.graph.nodes[node]
        return data["shapes"][0] if data["kind"] == "operator" else None

    def _dims(self, node: str) -> tuple[int | None, ...] | None:
        data = self.model.graph.nodes[node]
        return data["dims"][0] if data["kind"] == "operator" else None

    def verdict(self, region: _Region) -> tuple[tuple[tuple[str, str], ...], str | None]:
        """What the region ties when it goes, and why it cannot go."""
        ties, reason = self._ties(region)
        if reason is None:
            inside = set(region.operators)
            for name in self._tensors(self._members(region)):
                users = set(self.model.graph.successors(name)) if name in self.model.graph else set()
                if users - inside or name in self.model.aliases.values():
                    return ties, f"shares `{name}` with the rest of the network"
        return ties, reason

    def block(self, region: _Region, ties: tuple[tuple[str, str], ...], reason: str | None) -> Block:
        """The block of a region, and what goes with it."""
        members = self._members(region)
        return Block(
            name=region.name,
            entry=region.entry,
            exit=region.exit,
            members=tuple(members),
            replaced=tuple(call.path for call in region.calls),
            parameters=tuple(self._tensors(members)),
            operators=region.operators,
            kind="residual" if self._skips(region) else "plain",
            ties=ties,
            reason=reason,
        )

    def _members(self, region: _Region) -> list[str]:
        """The region's modules and all within them."""
        found = []
        for call in region.calls:
            first = bisect_left(self.paths, f"{call.path}.")
            last = bisect_left(self.paths, f"{call.path}/")
            found += [call.path, *self.paths[first:last]]
        return found

    def _tensors(self, members: Sequence[str]) -> list[str]:
        return [name for path in members for name in self.tensors.get(path, ())]

    def _skips(self, region: _Region) -> bool:
        """Whether a path from entry to exit passes no weight."""
        inside = set(region.operators)
        weightless = [n for n in inside if not self._multiplies(n)]
        graph = self.model.graph.subgraph([*weightless, region.entry])
        return region.exit in graph and nx.has_path(graph, region.entry, region.exit)

    def _multiplies(self, node: str) -> bool:
        return any(parent in self.model.weights for parent in self.model.graph.predecessors(node)) or bool(
            self.model.graph.nodes[node]["macs"]
        )

    def _ties(self, region: _Region) -> tuple[tuple[tuple[str, str], ...], str | None]:
        """The groups that are one without the region, or why it cannot go."""
        before, after = self._shape(region.entry), self._shape(region.exit)
        if before is None or after is None:
            return (), "reads the network's input"
        if before != after:
            return (), f"changes {_spell(before)} to {_spell(after)}"
        ties = []
        for one, other in zip(self._dims(region.entry) or (), self._dims(region.exit) or (), strict=True):
            if one != other:
                pairs = _tie(self.model, one, other)
                if not pairs:
                    return (), "its input and output channels cannot be paired"
                ties += pairs
        return tuple(ties), None


def _tie(model: ModelGraph, one: int | None, other: int | None) -> list[tuple[str, str]]:
    """The groups of both, pair by pair (two where these are heads and their dims), if their units stand at the same
    positions, each at all of them; else nothing."""
    if one is None or other is None:
        return []
    first, second = model.layouts[one], model.layouts[other]
    if len(first.runs) != len(second.runs):
        return []
    for mine, theirs in zip(first.runs, second.runs, strict=True):
        whole = len(mine.index) == first.size and len(theirs.index) == second.size
        sizes = [model.group(run.group).size for run in (mine, theirs)]
        if not whole or sizes[0] != sizes[1] or not np.array_equal(mine.unit, theirs.unit):
            return []
    return [(mine.group, theirs.group) for mine, theirs in zip(first.runs, second.runs, strict=True)]


def _spell(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape[1:]))


def _upwards(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition(".")[0]


def _spans(tree: nx.DiGraph) -> dict[str, tuple[int, int]]:
    """Per node its place in preorder and the last place below it: ancestors are spans around a place."""
    spans: dict[str, tuple[int, int]] = {}
    begun: dict[str, int] = {}
    if "" in tree:
        for _, node, label in nx.dfs_labeled_edges(tree, ""):
            if label == "forward":
                begun[node] = len(begun)
            elif label == "reverse":
                spans[node] = begun[node], len(begun) - 1
    return spans


class _Dominators:
    """Which nodes every path from a root to a node passes."""

    def __init__(self, graph: nx.DiGraph, root: str) -> None:
        nodes = nx.DiGraph(graph.edges)
        for kind in [n for n, d in graph.nodes(data=True) if d["kind"] == root]:
            nodes.add_edge("", kind)
        tree = nx.DiGraph()
        if "" in nodes:
            immediate = nx.immediate_dominators(nodes, "").items()
            tree.add_edges_from((above, node) for node, above in immediate if above is not None and above != node)
        self._span = _spans(tree)

    def __contains__(self, node: str) -> bool:
        return node in self._span

    def above(self, upper: str, node: str) -> bool:
        """Whether every path from the root to `node` passes `upper`."""
        if upper not in self._span or node not in self._span:
            return False
        (start, end), (place, _) = self._span[upper], self._span[node]
        return start <= place <= end


def _related(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Blocks with the smallest block around each as its parent."""
    sets = [frozenset(block.operators) for block in blocks]
    related = []
    for block, mine in zip(blocks, sets, strict=True):
        around = [(len(other), blocks[place].name) for place, other in enumerate(sets) if mine < other]
        related.append(attrs.evolve(block, parent=min(around)[1] if around else None))
    return tuple(related)
