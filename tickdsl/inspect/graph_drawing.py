"""Draw a model graph: as Graphviz source, or as a self-contained SVG laid out by topological generations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape

import attrs
import networkx as nx

from tickdsl.graph.layer_tree import GraphView, Layer

_GROUP_FILLS = ("#aecbfa", "#fdd9a0", "#b7e1c1", "#f5b8b8", "#d5c3ee", "#a8e0e3", "#f3c6e2", "#dde39b")
_DEFAULT_FILL, _FIXED_FILL = "#f4f4f4", "#d0d0d0"
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN, _HEADER, _INSET = 236, 40, 28, 22, 24, 34, 10


@attrs.frozen
class _Node:
    """A layer, or an operator where branches meet."""

    title: str
    detail: str
    fill: str
    layer: Layer | None


def layer_graph(view: GraphView) -> nx.DiGraph:
    """An acyclic graph of the data flow between layers, and operators where branches meet (node attribute `node`).

    A layer that runs again after others have used its output has a node for each time.
    """
    operators = view.graph.graph
    sources: dict[str, frozenset[str]] = {}
    layer_dag = nx.DiGraph()
    latest: dict[str, str] = {}
    layers = {layer.path: layer for layer in view.layers}
    for name in nx.topological_sort(operators):
        data = operators.nodes[name]
        if data["kind"] in ("parameter", "constant") or data.get("train_only"):
            continue
        input_sets = [sources[parent] for parent in operators.predecessors(name) if parent in sources]
        inputs: frozenset[str] = frozenset().union(*input_sets)
        owner = view.owner_path(name) if _is_compute(operators, name) else None
        if owner is not None:
            node_name = latest.get(owner, owner)
            if node_name in layer_dag and any(
                source != node_name and nx.has_path(layer_dag, node_name, source) for source in inputs
            ):
                node_name = f"{node_name} again"
            if node_name not in layer_dag:
                latest[owner] = node_name
                layer_dag.add_node(node_name, node=_layer_node(view, layers[owner]))
            layer_dag.add_edges_from((source, node_name) for source in inputs if source != node_name)
            sources[name] = frozenset([node_name])
        elif data["kind"] != "operator" or len(inputs) > 1:
            node_name = f"{name} "  # a layer may have an operator's name
            title = data["op"] if data["kind"] == "operator" else data["kind"]
            layer_dag.add_node(node_name, node=_Node(title, "", "#ffffff", None))
            layer_dag.add_edges_from((source, node_name) for source in inputs)
            sources[name] = frozenset([node_name])
        else:
            sources[name] = inputs
    return layer_dag


def _is_compute(operators: nx.DiGraph, name: str) -> bool:
    """Whether an operator uses weights or multiplies; others only pass their inputs on."""
    data = operators.nodes[name]
    reads = any(operators.nodes[parent]["kind"] == "parameter" for parent in operators.predecessors(name))
    return data["kind"] == "operator" and not data["view"] and (data["macs"] > 0 or reads)


def _layer_node(view: GraphView, layer: Layer) -> _Node:
    channels = f" {layer.inputs}→{layer.outputs}" if layer.outputs is not None else ""
    labels = [view.labels[group.name] for group in layer.groups if group.name in view.labels]
    mark = f"  [{', '.join(labels)}]" if labels else ""
    fill = _DEFAULT_FILL
    for group in layer.groups:
        if group.reason is not None:
            fill = _FIXED_FILL
        elif group.name in view.labels:
            fill = _GROUP_FILLS[list(view.labels).index(group.name) % len(_GROUP_FILLS)]
    return _Node(layer.path, f"{layer.kind}{channels}{mark}", fill, layer)


def as_dot(view: GraphView, title: str) -> str:
    """Graphviz source; coupled groups share a colour and a letter, removable blocks are clusters."""
    layer_dag = layer_graph(view)
    lines = [
        f"digraph {_quoted(title)} {{",
        "  rankdir=TB; labelloc=t; fontname=Helvetica; " + f"label={_quoted(title)};",
        '  node [shape=box, style="filled,rounded", fontname=Helvetica, fontsize=10];',
    ]
    for name, data in layer_dag.nodes(data=True):
        node: _Node = data["node"]
        label = f"{node.title}\n{node.detail}" if node.detail else node.title
        shape = "" if node.layer is not None else ", shape=ellipse"
        lines.append(f"  {_quoted(name)} [label={_quoted(label)}, fillcolor={_quoted(node.fill)}{shape}];")
    for index, block in enumerate(view.graph.layers):
        members = [name for name in layer_dag if name in block.members]
        label = _quoted(f"{block.name}: removable")
        lines.append(f"  subgraph cluster_{index} {{ label={label}; color=gray60; style=dashed;")
        lines += [f"    {_quoted(name)};" for name in members]
        lines.append("  }")
    lines += [f"  {_quoted(source)} -> {_quoted(target)};" for source, target in layer_dag.edges]
    return _ascii("\n".join([*lines, "}"]))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def as_svg(view: GraphView, title: str) -> str:
    """A self-contained SVG; data flows down, coupled groups share a colour and letter, removable blocks have frames."""
    layer_dag = layer_graph(view)
    positions = _layout(layer_dag)
    right = max((x for x, _ in positions.values()), default=0) + _WIDTH + 3 * _MARGIN
    bottom = max((y for _, y in positions.values()), default=0) + _HEIGHT + _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{right}" height="{bottom}" '
        f'viewBox="0 0 {right} {bottom}" font-family="Helvetica, Arial, sans-serif" font-size="11">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{right}" height="{bottom}" fill="#ffffff"/>',
        f'<text x="{_MARGIN}" y="22" font-size="14" font-weight="bold">{escape(title)}</text>',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#666"/></marker></defs>',
        *_block_frames(view, positions),
        *_edge_paths(layer_dag, positions),
    ]
    for name, (x, y) in positions.items():
        lines += _node_box(layer_dag.nodes[name]["node"], x, y)
    return _ascii("\n".join([*lines, "</svg>"]))


def _ascii(text: str) -> str:
    """Replace non-ASCII characters by character references, which Graphviz and SVG understand, for any terminal."""
    return text.encode("ascii", "xmlcharrefreplace").decode()


Positions = Mapping[str, tuple[int, int]]


def _layout(layer_dag: nx.DiGraph) -> dict[str, tuple[int, int]]:
    """The upper left corner of every node: one row per generation, below the leftmost predecessor if possible."""
    positions: dict[str, tuple[int, int]] = {}
    columns: dict[str, int] = {}
    for row, names in enumerate(nx.topological_generations(layer_dag)):
        preferred = {
            name: min((columns[parent] for parent in layer_dag.predecessors(name)), default=0) for name in names
        }
        free = 0
        for name in sorted(names, key=lambda name: preferred[name]):
            columns[name] = max(free, preferred[name])
            free = columns[name] + 1
            positions[name] = (
                _MARGIN + columns[name] * (_WIDTH + _GAP_X),
                _HEADER + _MARGIN + row * (_HEIGHT + _GAP_Y),
            )
    return positions


def _block_frames(view: GraphView, positions: Positions) -> Iterator[str]:
    for block in view.graph.layers:
        members = [positions[name] for name in positions if name in block.members]
        if members:
            left, top = min(x for x, _ in members) - 9, min(y for _, y in members) - 8
            width = max(x for x, _ in members) - left + _WIDTH + 9
            height = max(y for _, y in members) - top + _HEIGHT + 8
            yield (
                f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="8" fill="#f3fbf4" '
                f'stroke="#5a9a68" stroke-dasharray="4 3"><title>{escape(block.name)}: removable</title></rect>'
            )


def _edge_paths(layer_dag: nx.DiGraph, positions: Positions) -> Iterator[str]:
    """The edges: straight to the next row; past several rows down the column, or around nodes in the same column."""
    style = 'fill="none" stroke="#666" marker-end="url(#head)"'
    for source, target in layer_dag.edges:
        (x1, y1), (x2, y2) = positions[source], positions[target]
        bottom = y1 + _HEIGHT - _inset(layer_dag, source)
        top = y2 + _inset(layer_dag, target)
        if x1 != x2 or y2 - y1 <= _HEIGHT + _GAP_Y:
            start, end, turn = x1 + _WIDTH // 2, x2 + _WIDTH // 2, max(bottom, y2 - _GAP_Y)
            middle = (turn + top) // 2
            yield f'<path d="M{start} {bottom} V{turn} C{start} {middle} {end} {middle} {end} {top}" {style}/>'
        else:
            side = x1 + _WIDTH
            far = side + 26
            ends = y1 + _HEIGHT // 2, y2 + _HEIGHT // 2
            yield f'<path d="M{side} {ends[0]} C{far} {ends[0] + 16} {far} {ends[1] - 16} {side} {ends[1]}" {style}/>'


def _inset(layer_dag: nx.DiGraph, name: str) -> int:
    """How much smaller the box of an operator is than that of a layer, at the top and at the bottom."""
    return 0 if layer_dag.nodes[name]["node"].layer is not None else _INSET


def _node_box(node: _Node, x: int, y: int) -> Iterator[str]:
    middle = x + _WIDTH // 2
    if node.layer is None:
        # As wide as a layer, so that edges meet it, but lower.
        yield (
            f'<rect x="{x}" y="{y + _INSET}" width="{_WIDTH}" height="{_HEIGHT - 2 * _INSET}" rx="10" '
            'fill="#ffffff" stroke="#bbb"/>'
        )
        yield f'<text x="{middle}" y="{y + 24}" text-anchor="middle" fill="#555">{escape(node.title)}</text>'
        return
    yield f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="{node.fill}" stroke="#888"/>'
    title = node.title if len(node.title) <= 40 else "…" + node.title[-39:]
    yield f'<text x="{middle}" y="{y + 17}" text-anchor="middle" font-weight="bold">{escape(title)}</text>'
    yield f'<text x="{middle}" y="{y + 32}" text-anchor="middle" fill="#333">{escape(node.detail)}</text>'
