"""Blocks: single-entry, single-exit regions that can be taken out whole, leaving an identity."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import attrs
import networkx as nx

from tickdsl.graph.model import Block, ChannelGroup, Layout, ModelGraph
from tickdsl.graph.record import ModuleCall, Recording


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
    for parent, chain in finder.chains():
        regions = [region for region in finder.regions(chain) if finder.has_weights(region)]
        blocks = [finder.block(region, parent) for region in regions]
        if any(block.reason is None for block in blocks):
            for region, block in zip(regions, blocks, strict=True):
                found.setdefault(region.operators, block)
    return _related(sorted(found.values(), key=lambda block: finder.position[block.operators[0]]))


class _Finder:
    def __init__(self, model: ModelGraph, recording: Recording) -> None:
        self.model, self.recording = model, recording
        self.operators = [operator.name for operator in recording.operators]
        self.position = {name: place for place, name in enumerate(self.operators)}
        self.calls = Counter(call.path for call in recording.calls)
        self.weighted = {info.module for info in model.weights.values()}
        flow = model.graph.subgraph(
            [*self.operators, *(n for n, d in model.graph.nodes(data=True) if d["kind"] in ("input", "output"))]
        )
        self.dominators = _Dominators(flow, "input")
        self.post_dominators = _Dominators(flow.reverse(copy=False), "output")

    def chains(self) -> Iterator[tuple[str, list[ModuleCall]]]:
        """Per module its children's calls, those that feed each other directly in one chain; outer ones first."""
        children: dict[str, list[ModuleCall]] = defaultdict(list)
        for call in self.recording.calls:
            children[call.path.rpartition(".")[0]].append(call)
        for parent in sorted(children, key=lambda path: (path.count(".") + bool(path), path)):
            chain: list[ModuleCall] = []
            for call in sorted(children[parent], key=lambda call: (call.start, call.end)):
                if chain and not (call.inputs == chain[-1].outputs and call.start == chain[-1].end):
                    yield parent, chain
                    chain = []
                chain.append(call)
            yield parent, chain

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
        return any(path == call.path or path.startswith(f"{call.path}.") for path in self.weighted)

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
            (entry in self.dominators.above(n) or n not in self.dominators) and exit_ in self.post_dominators.above(n)
            for n in inside
        )

    def _shape(self, node: str) -> tuple[int, ...] | None:
        data = self.model.graph.nodes[node]
        return data["shapes"][0] if data["kind"] == "operator" else None

    def _dims(self, node: str) -> tuple[int | None, ...] | None:
        data = self.model.graph.nodes[node]
        return data["dims"][0] if data["kind"] == "operator" else None

    def block(self, region: _Region, parent: str) -> Block:
        """The block of a region: what goes with it, and whether it can go."""
        members = [path for call in region.calls for path in self._inside(call)]
        tensors = [name for name in (*self.model.parameters, *self.model.buffers) if name.rpartition(".")[0] in members]
        ties, reason = self._ties(region)
        shared = self._shared(region, tensors)
        if reason is None and shared is not None:
            reason = f"shares `{shared}` with the rest of the network"
        return Block(
            name=region.name,
            entry=region.entry,
            exit=region.exit,
            members=tuple(members),
            replaced=tuple(call.path for call in region.calls),
            parameters=tuple(tensors),
            operators=region.operators,
            kind="residual" if self._skips(region) else "plain",
            ties=ties,
            reason=reason,
        )

    def _inside(self, call: ModuleCall) -> list[str]:
        paths = [c.path for c in self.recording.calls if c.path.startswith(f"{call.path}.")]
        tensors = (*self.model.parameters, *self.model.buffers)
        owners = [name.rpartition(".")[0] for name in tensors if name.startswith(f"{call.path}.")]
        return list(dict.fromkeys([call.path, *sorted({*paths, *owners})]))

    def _shared(self, region: _Region, tensors: Sequence[str]) -> str | None:
        inside = set(region.operators)
        for name in tensors:
            users = set(self.model.graph.successors(name)) if name in self.model.graph else set()
            if users - inside or name in self.model.aliases.values():
                return name
        return None

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
                pair = _tie(self.model, one, other)
                if pair is None:
                    return (), "its input and output channels cannot be paired"
                ties.append(pair)
        return tuple(ties), None


def _tie(model: ModelGraph, one: int | None, other: int | None) -> tuple[str, str] | None:
    """The two groups, where their units stand at the same positions."""
    if one is None or other is None:
        return None
    first, second = model.layouts[one], model.layouts[other]
    groups = [_only_group(model, layout) for layout in (first, second)]
    if groups[0] is None or groups[1] is None or groups[0].size != groups[1].size:
        return None
    if list(first.runs[0].unit) != list(second.runs[0].unit):
        return None
    return groups[0].name, groups[1].name


def _only_group(model: ModelGraph, layout: Layout) -> ChannelGroup | None:
    whole = len(layout.runs) == 1 and len(layout.runs[0].index) == layout.size
    return model.group(layout.runs[0].group) if whole else None


def _spell(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape[1:]))


class _Dominators:
    """The dominators of every node, from a root."""

    def __init__(self, graph: nx.DiGraph, root: str) -> None:
        self._above: dict[str, frozenset[str]] = {}
        nodes = nx.DiGraph(graph.edges)
        for kind in [n for n, d in graph.nodes(data=True) if d["kind"] == root]:
            nodes.add_edge("", kind)
        self._immediate = nx.immediate_dominators(nodes, "") if "" in nodes else {}

    def __contains__(self, node: str) -> bool:
        return node in self._immediate

    def above(self, node: str) -> frozenset[str]:
        """The node and all that dominate it."""
        chain = []
        while node and node not in self._above:
            chain.append(node)
            node = self._immediate.get(node) or ""
        known = self._above.get(node, frozenset())
        for name in reversed(chain):
            known = known | {name}
            self._above[name] = known
        return known


def _related(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Blocks with the smallest block around each as its parent."""
    sets = [frozenset(block.operators) for block in blocks]
    related = []
    for block, mine in zip(blocks, sets, strict=True):
        around = [(len(other), blocks[place].name) for place, other in enumerate(sets) if mine < other]
        related.append(attrs.evolve(block, parent=min(around)[1] if around else None))
    return tuple(related)
