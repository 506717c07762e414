"""The tree of a model graph as lines of text; runs of layers that are alike share one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import attrs

from tickdsl.graph.layer_tree import GraphView, Layer

#: So many neighbours must be alike to share a line: fewer read well as they are.
FEWEST = 4


@attrs.frozen
class Branch:
    """A layer, or several that are alike, and the branches within; names are relative to the branch around."""

    name: str
    layers: tuple[Layer, ...]
    within: tuple[Branch, ...]


@attrs.frozen
class Line:
    """One line of the tree: its guide, and the branch that it stands for."""

    guide: str
    branch: Branch


def lines(view: GraphView, full: bool) -> Iterator[Line]:
    """The network itself first, then what is in it; with every layer where `full`, else alike ones folded."""
    root = view.layers[0]
    yield Line("", Branch("(network)", (root,), ()))
    for branch in _inside(view, root, full):
        yield Line("", branch)
        yield from _beneath(branch, "")


def _beneath(branch: Branch, above: str) -> Iterator[Line]:
    for place, child in enumerate(branch.within):
        last = place == len(branch.within) - 1
        yield Line(above + ("└ " if last else "├ "), child)
        yield from _beneath(child, above + ("  " if last else "│ "))


def _inside(view: GraphView, layer: Layer, full: bool) -> tuple[Branch, ...]:
    """The branches of a layer; containers of a single layer share its line."""
    found = []
    for child in view.children.get(layer.path, ()):
        while _transparent(view, child):
            child = view.children[child.path][0]
        start = child.path[len(layer.path) + 1 if layer.path else 0 :]
        name = " + ".join([start, *(norm.rpartition(".")[2] for norm in child.folded)])
        found.append(Branch(name, (child,), _inside(view, child, full)))
    return tuple(found if full else _folded(found))


def _transparent(view: GraphView, layer: Layer) -> bool:
    inside = view.children.get(layer.path, ())
    return len(inside) == 1 and not (layer.params or layer.macs or layer.blocks)


def _folded(branches: Sequence[Branch]) -> Iterator[Branch]:
    run: list[Branch] = []
    for branch in branches:
        if run and not (_next(run[-1].name, branch.name) and _looks(run[-1]) == _looks(branch)):
            yield from _one(run)
            run = []
        run.append(branch)
    yield from _one(run)


def _one(run: Sequence[Branch]) -> Iterable[Branch]:
    if len(run) < FEWEST or not run[0].within:
        return run
    numbers = [re.split(r"(\d+)", branch.name) for branch in (run[0], run[-1])]
    last = next(other for one, other in zip(*numbers, strict=True) if one != other)
    return [_merged(f"{run[0].name} … {last} ×{len(run)}", run)]


def _merged(name: str, branches: Sequence[Branch]) -> Branch:
    within = zip(*(branch.within for branch in branches), strict=True)
    layers = tuple(layer for branch in branches for layer in branch.layers)
    return Branch(name, layers, tuple(_merged(alike[0].name, alike) for alike in within))


def _next(one: str, other: str) -> bool:
    """Whether a name is the next of another: the same but for one number, which is one more."""
    first, second = re.split(r"(\d+)", one), re.split(r"(\d+)", other)
    if len(first) != len(second):
        return False
    pairs = [pair for pair in zip(first, second, strict=True) if pair[0] != pair[1]]
    return len(pairs) == 1 and pairs[0][0].isdigit() and pairs[0][1] == str(int(pairs[0][0]) + 1)


def _looks(branch: Branch) -> object:
    """What branches that are alike have in common: all but their names, inputs and costs."""
    layer = branch.layers[0]
    groups = [(g.kind, g.size, g.step, g.exact, g.reason is None, len(g.producers) > 1) for g in layer.groups]
    blocks = [block.reason for block in layer.blocks]
    return layer.kind, layer.outputs, groups, blocks, [(inner.name, _looks(inner)) for inner in branch.within]


def spans(names: Iterable[str]) -> list[str]:
    """Names in their order; runs that differ in one number as the first and the last number: `layer.0 … 11.norm`."""
    left = list(dict.fromkeys(names))
    found: dict[str, str] = {}
    for name in left:
        if name in found:
            continue
        parts = re.split(r"(\d+)", name)
        for place in range(1, len(parts), 2):
            alike = {}
            for other in left:
                theirs = re.split(r"(\d+)", other)
                if other not in found and theirs[:place] == parts[:place] and theirs[place + 1 :] == parts[place + 1 :]:
                    alike[int(theirs[place])] = other
            numbers = sorted(alike)
            if len(alike) >= FEWEST and all(b == a + 1 for a, b in pairwise(numbers)):
                text = f"{''.join(parts[:place])}{numbers[0]} … {numbers[-1]}{''.join(parts[place + 1 :])}"
                found |= dict.fromkeys(alike.values(), text)
                break
        else:
            found[name] = name
    return list(dict.fromkeys(found[name] for name in left))
