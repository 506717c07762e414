"""The layers of a network as a tree of lines; consecutive similar layers are folded into one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import attrs

from tickdsl.graph.layer_tree import GraphView, Layer

#: The minimum number of consecutive similar layers that are folded.
MIN_FOLDED = 4


@attrs.frozen
class Branch:
    """A layer, or several similar layers, with its children; `name` is relative to the parent."""

    name: str
    layers: tuple[Layer, ...]
    children: tuple[Branch, ...]


@attrs.frozen
class TreeLine:
    """One line of the tree: the lines that draw the tree (`guide`), and the branch."""

    guide: str
    branch: Branch


def tree_lines(view: GraphView, full: bool) -> Iterator[TreeLine]:
    """The lines of a network, starting with the network itself; `full` does not fold similar layers."""
    root = view.layers[0]
    yield TreeLine("", Branch("(network)", (root,), ()))
    for branch in _child_branches(view, root, full):
        yield TreeLine("", branch)
        yield from _descendant_lines(branch, "")


def _descendant_lines(branch: Branch, guide: str) -> Iterator[TreeLine]:
    for index, child in enumerate(branch.children):
        last = index == len(branch.children) - 1
        yield TreeLine(guide + ("└ " if last else "├ "), child)
        yield from _descendant_lines(child, guide + ("  " if last else "│ "))


def _child_branches(view: GraphView, layer: Layer, full: bool) -> tuple[Branch, ...]:
    """The children of a layer; a container with a single child shares its line."""
    branches = []
    for child in view.children.get(layer.path, ()):
        while _is_wrapper(view, child):
            child = view.children[child.path][0]
        relative_path = child.path[len(layer.path) + 1 if layer.path else 0 :]
        name = " + ".join([relative_path, *(norm.rpartition(".")[2] for norm in child.folded)])
        branches.append(Branch(name, (child,), _child_branches(view, child, full)))
    return tuple(branches if full else _fold_similar(branches))


def _is_wrapper(view: GraphView, layer: Layer) -> bool:
    children = view.children.get(layer.path, ())
    return len(children) == 1 and not (layer.params or layer.macs or layer.blocks)


def _fold_similar(branches: Sequence[Branch]) -> Iterator[Branch]:
    similar: list[Branch] = []
    for branch in branches:
        if similar and not (
            _is_successor(similar[-1].name, branch.name) and _signature(similar[-1]) == _signature(branch)
        ):
            yield from _fold_run(similar)
            similar = []
        similar.append(branch)
    yield from _fold_run(similar)


def _fold_run(similar: Sequence[Branch]) -> Iterable[Branch]:
    if len(similar) < MIN_FOLDED or not similar[0].children:
        return similar
    numbers = [re.split(r"(\d+)", branch.name) for branch in (similar[0], similar[-1])]
    last = next(last_part for first_part, last_part in zip(*numbers, strict=True) if first_part != last_part)
    return [_merge(f"{similar[0].name} … {last} ×{len(similar)}", similar)]


def _merge(name: str, branches: Sequence[Branch]) -> Branch:
    children = zip(*(branch.children for branch in branches), strict=True)
    layers = tuple(layer for branch in branches for layer in branch.layers)
    return Branch(name, layers, tuple(_merge(similar[0].name, similar) for similar in children))


def _is_successor(name: str, next_name: str) -> bool:
    """Whether `next_name` is `name` with one number increased by 1."""
    first, second = re.split(r"(\d+)", name), re.split(r"(\d+)", next_name)
    if len(first) != len(second):
        return False
    pairs = [pair for pair in zip(first, second, strict=True) if pair[0] != pair[1]]
    return len(pairs) == 1 and pairs[0][0].isdigit() and pairs[0][1] == str(int(pairs[0][0]) + 1)


def _signature(branch: Branch) -> object:
    """What similar branches have in common: everything but their names, inputs and costs."""
    layer = branch.layers[0]
    groups = [(g.kind, g.size, g.step, g.exact, g.reason is None, len(g.producers) > 1) for g in layer.groups]
    blocks = [block.reason for block in layer.blocks]
    return layer.kind, layer.outputs, groups, blocks, [(inner.name, _signature(inner)) for inner in branch.children]


def collapse_names(names: Iterable[str]) -> list[str]:
    """Names in their order, with names that differ in one number collapsed: `layer.0 … 11.norm`."""
    remaining = list(dict.fromkeys(names))
    collapsed: dict[str, str] = {}
    for name in remaining:
        if name in collapsed:
            continue
        parts = re.split(r"(\d+)", name)
        for index in range(1, len(parts), 2):
            similar = {}
            for other in remaining:
                other_parts = re.split(r"(\d+)", other)
                if (
                    other not in collapsed
                    and other_parts[:index] == parts[:index]
                    and other_parts[index + 1 :] == parts[index + 1 :]
                ):
                    similar[int(other_parts[index])] = other
            numbers = sorted(similar)
            if len(similar) >= MIN_FOLDED and all(b == a + 1 for a, b in pairwise(numbers)):
                text = f"{''.join(parts[:index])}{numbers[0]} … {numbers[-1]}{''.join(parts[index + 1 :])}"
                collapsed |= dict.fromkeys(similar.values(), text)
                break
        else:
            collapsed[name] = name
    return list(dict.fromkeys(collapsed[name] for name in remaining))
