"""Print the layers of a network as a tree; colours and width follow the console."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tickdsl.errors import TickdslError
from tickdsl.graph.layer_tree import GraphView, Layer
from tickdsl.graph.model import HEAD_DIMS, ChannelGroup
from tickdsl.inspect.graph_tree import TreeLine, collapse_names, tree_lines
from tickdsl.inspect.uniform_pruning import Preview
from tickdsl.plugins import LIBRARIES
from tickdsl.plurals import plural
from tickdsl.results.formatting import percent
from tickdsl.training import catalogue
from tickdsl.training.catalogue.purposes import is_usual, model_purpose

#: Columns that are dropped on a narrow terminal, in this order.
_DROPPABLE_COLUMNS = ("kind", "in", "MACs", "out", "params", "left")
#: The minimum width of the last column, which wraps.
_MIN_REASON_WIDTH = 13
_LAYER_MARK, _OUTER_MARK = "●", "○"
_REMOVABLE = "removable"


def print_view(
    view: GraphView, title: str, preview: Preview | None, console: Console, full: bool = False, unit: str = "image"
) -> None:
    """Print the layers, the coupled and the fixed groups, and a summary; `full` prints every layer on its own line."""
    tree = list(tree_lines(view, full))
    for dropped in range(len(_DROPPABLE_COLUMNS) + 1):
        table = _table(view, tree, preview, frozenset(_DROPPABLE_COLUMNS[:dropped]))
        if _min_width(table, console) <= console.width:
            break
    parts: list[RenderableType] = [
        Text(title, style="bold"),
        table,
        *_legend(view, full),
        *_summary(view, preview, unit),
    ]
    if any(len(line.branch.layers) > 1 for line in tree):
        parts.insert(2, Text("×N: N similar layers with their total cost; --full lists each", style="dim"))
    content = Group(*parts)
    console.print(content if console.encoding.startswith("utf") else _Ascii(content))


def _min_width(table: Table, console: Console) -> int:
    """The width that a table needs so that only its last column wraps."""
    options = console.options.update(max_width=10_000)
    full_width = Measurement.get(console, options, table).maximum
    reason_widths = [Measurement.get(console, options, cell).maximum for cell in table.columns[-1].cells]
    return full_width - max(reason_widths) + min(_MIN_REASON_WIDTH, max(reason_widths))


def print_models(console: Console) -> None:
    """Print every model of the catalogue with a summary, then the names of torchvision's models."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    builtin = catalogue.MODELS.builtin
    names = [name for name in builtin if not name.startswith(catalogue.TORCHVISION_PREFIX)]
    for name in names:
        info = builtin[name]
        table.add_row(name, info.summary if is_usual(info) else f"{info.summary}; {model_purpose(info)}")
    for name, plugin in catalogue.MODELS.added.items():
        table.add_row(name, plugin.summary or plugin.origin)
    console.print(table)
    hidden = [name.removeprefix(catalogue.TORCHVISION_PREFIX) for name in builtin if name not in names]
    shadowed = [name for name in hidden if catalogue.MODELS[name].is_builtin]
    console.print(f"models of torchvision, as {catalogue.TORCHVISION_PREFIX}NAME: {', '.join(shadowed)}", style="dim")
    for library in LIBRARIES.values():
        if library.is_installed:
            count = plural(len(library.names()), "network")
            text = f"{count} of {library.package} {library.version}, as {library.prefix}.NAME: --list {library.prefix}"
        else:
            text = f'networks of {library.package}, as {library.prefix}.NAME: pip install "tickdsl[{library.extra}]"'
        console.print(text, style="dim")


def print_library(prefix: str, console: Console) -> None:
    """Print the names of the networks of a library, each with what it takes. Raises TickdslError if it is missing."""
    library = LIBRARIES.get(prefix)
    if library is None:
        raise TickdslError(f"`--list {prefix}`: no such library", f"use {' or '.join(LIBRARIES)}, or `--list` alone")
    if not library.is_installed:
        raise library.missing
    names = library.names()
    if len({*names.values()}) == 1:
        console.print(Columns([f"{prefix}.{name}" for name in names], padding=(0, 2)))
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", style="dim")
    for name in names:
        table.add_row(f"{prefix}.{name}", model_purpose(catalogue.MODELS[f"{prefix}.{name}"]))
    console.print(table)


def _table(view: GraphView, tree: Sequence[TreeLine], preview: Preview | None, without: frozenset[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 1))
    columns: list[tuple[str, dict[str, Any]]] = [
        ("layer", {"no_wrap": True, "overflow": "ellipsis"}),
        ("kind", {"no_wrap": True}),
        ("in", {"justify": "right", "no_wrap": True}),
        ("out", {"justify": "right", "no_wrap": True}),
        ("group", {"no_wrap": True}),
        ("params", {"justify": "right", "no_wrap": True}),
        ("MACs", {"justify": "right", "no_wrap": True}),
        (_REMOVABLE, {"overflow": "fold", "min_width": _MIN_REASON_WIDTH}),
    ]
    if preview is not None:
        columns.insert(4, ("left", {"justify": "right", "no_wrap": True}))
    shown = [name for name, _ in columns if name not in without]
    for name, options in columns:
        if name in shown:
            table.add_column(name, **options)
    for line in tree:
        cells = _cells(view, line, preview)
        layer = line.branch.layers[0]
        style = "" if layer.params or layer.macs else "dim"
        table.add_row(*(cells[name] for name in shown), style=style)
    return table


def _cells(view: GraphView, line: TreeLine, preview: Preview | None) -> dict[str, RenderableType]:
    layers = line.branch.layers
    layer = layers[0]
    parts = [part for member in layers for part in view.subtree(member)]
    params, macs = sum(part.params for part in parts), sum(part.macs for part in parts)
    return {
        "layer": Text.assemble((line.guide, "dim"), line.branch.name),
        "kind": layer.kind,
        "in": _range_text("" if member.inputs is None else str(member.inputs) for member in layers),
        "out": "" if layer.outputs is None else str(layer.outputs),
        "left": _range_text(_remaining_channels(member, preview) for member in layers) if preview else "",
        "group": Text(_range_text(", ".join(_group_text(view, group) for group in member.groups) for member in layers)),
        "params": _percentage(params, view.dense.params),
        "MACs": _percentage(macs, view.dense.macs),
        _REMOVABLE: _removable_text(view, layer),
    }


def _range_text(texts: Iterable[str]) -> str:
    """One text for several similar layers: the first and the last if they differ."""
    distinct = list(dict.fromkeys(texts))
    return distinct[0] if len(distinct) == 1 else f"{distinct[0]} … {distinct[-1]}"


def _remaining_channels(layer: Layer, preview: Preview) -> str:
    """The output channels that are left of a layer, per group; one number for heads and their dimensions."""
    if layer.path in preview.rows:
        return str(preview.rows[layer.path])
    return ", ".join(str(preview.kept[group.name] * _channels_per_unit(layer, group)) for group in layer.groups)


def _channels_per_unit(layer: Layer, group: ChannelGroup) -> int:
    """The number of output channels of a layer that are removed with one unit of a group; 1 if the units differ."""
    outputs = layer.outputs or group.size
    return outputs // group.size if outputs % group.size == 0 else 1


def _group_text(view: GraphView, group: ChannelGroup) -> str:
    label = view.labels.get(group.name, "")
    if group.reason is not None:
        return f"fixed {label}".strip()
    # The name of a group of head dimensions tells whether they belong to queries and keys, to values, or to all.
    unit = group.name.rpartition(":")[2].partition("#")[0] if group.kind == HEAD_DIMS else group.kind
    kind = unit if group.step == 1 else f"{group.size} {unit}"
    return f"{kind} {label}".strip() + ("" if group.exact else " ≈")


def _removable_text(view: GraphView, layer: Layer) -> Text:
    text = Text()
    removable = {block.name for block in view.graph.layers}
    for block in layer.blocks:
        if block.reason is not None:
            text.append(block.reason, "dim")
        elif block.name in removable:
            text.append(f"{_LAYER_MARK} yes", "green")
        else:
            text.append(f"{_OUTER_MARK} yes", "dim green")
        text.append("; " if block is not layer.blocks[-1] else "")
    return text


def _percentage(part: int, whole: int) -> str:
    if not part:
        return ""
    return percent(part / whole)


def _legend(view: GraphView, full: bool) -> Iterator[RenderableType]:
    graph = view.graph
    coupled = [group for group in graph.channels if group.name in view.labels and group.reason is None]
    if coupled:
        yield Text("\ncoupled groups: pruned together", style="bold")
        yield _plain_table((view.labels[g.name], f"{g.size} {g.kind}", _producer_names(g, full)) for g in coupled)
    fixed = [group for group in graph.channels if group.reason is not None]
    if fixed:
        yield Text("\nfixed groups: not pruned", style="bold")
        yield _plain_table(
            (view.labels.get(g.name, ""), f"{g.size} {g.kind}", f"{_producer_names(g, full) or g.name}: {g.reason}")
            for g in fixed
        )
    if any(not group.exact and group.reason is None for group in graph.channels):
        yield Text("\n≈ pruning also changes the outputs that are left: a normalisation runs over these channels")
    if graph.unknown:
        yield Text("\nunknown operators: the groups that they touch are fixed", style="bold yellow")
        yield _plain_table(("", "", name) for name in graph.unknown)


def _producer_names(group: ChannelGroup, full: bool) -> str:
    return ", ".join(group.producers if full else collapse_names(group.producers))


def _plain_table(rows: Iterator[tuple[str, str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, size, description in rows:
        table.add_row(label, size, Text(description))
    return table


def _summary(view: GraphView, preview: Preview | None, unit: str) -> Iterator[RenderableType]:
    graph, dense = view.graph, view.dense
    yield Text(f"\n{plural(dense.params, 'parameter')}, {plural(dense.macs, 'multiply-add')} per {unit}")
    removable_groups = [group for group in graph.channels if group.reason is None]
    counts = []
    for kind in dict.fromkeys(group.kind for group in graph.channels):
        removable = sum(group.size for group in removable_groups if group.kind == kind)
        total = sum(group.size for group in graph.channels if group.kind == kind)
        counts.append(f"{removable:,} of {total:,} {kind}")
    yield Text(f"prunable: {', '.join(counts)}, in {plural(len(removable_groups), 'group')}")
    regions = sum(block.reason is None for block in graph.blocks)
    yield Text(
        f"removable: {plural(len(graph.layers), 'layer')} ({_LAYER_MARK}, by `prune layers`) "
        f"of {plural(regions, 'region')} ({_OUTER_MARK}) in total"
    )
    if preview is not None:
        before, after = preview.before, preview.after
        yield Text(f"\nafter removing {100 * preview.share:.4g}% of the units of every group", style="bold")
        yield _plain_table(
            ("", name, f"{old:,} → {new:,} ({_remaining_text(old, new)})")
            for name, old, new in (
                ("parameters", before.params, after.params),
                ("multiply-adds", before.macs, after.macs),
                ("activation bytes", before.activation_bytes, after.activation_bytes),
            )
        )


def _remaining_text(old: int, new: int) -> str:
    return f"{percent(new / old)} left" if old else "none"


class _Ascii:
    """Renders `content` for a terminal without Unicode."""

    _SPELLING = str.maketrans(
        {"×": "x", "├": "|", "└": "`", "│": "|", "─": "-", "●": "*", "○": "o", "≈": "~", "…": "~", "→": ">"}
    )

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console, options):  # type: ignore[no-untyped-def]
        for segment in console.render(self._content, options):
            yield segment._replace(text=segment.text.translate(self._SPELLING))
