"""What a ticket leaves of each layer of its dense network, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tickdsl.engine.layers import remaining_by_layer
from tickdsl.engine.steps.network_size import structure_metrics
from tickdsl.errors import TickdslError
from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.layer_tree import GraphView
from tickdsl.graph.structure import Structure
from tickdsl.pruning.transfer import transfer_structure
from tickdsl.results.formatting import percent
from tickdsl.results.scores import stored
from tickdsl.tickets.errors import TicketError
from tickdsl.tickets.rebuilding import dense_network_of
from tickdsl.tickets.ticket import Ticket
from tickdsl.tickets.ticket_file import open_ticket
from tickdsl.training.catalogue.input_shapes import shape_in_words


@attrs.frozen
class LayerLeft:
    """What is left of a layer with weights: its outputs and weights, beside those of the dense network.

    outputs: None for a layer whose outputs are not counted. removed: whether the whole layer is gone.
    """

    path: str
    kind: str
    outputs: int | None
    dense_outputs: int | None
    weights: int
    dense_weights: int
    removed: bool


@attrs.frozen(eq=False)
class TicketLayers:
    """A ticket, its layers in order, and the metrics of its structure and of the dense one."""

    path: Path
    ticket: Ticket
    layers: tuple[LayerLeft, ...]
    metrics: dict[str, Any]
    dense: dict[str, Any]


def ticket_layers(path: Path) -> TicketLayers:
    """Read a ticket and compare it with its dense network. Raises TicketError if either is missing or was changed."""
    ticket = open_ticket(path)
    graph = dense_network_of(ticket.source).graph
    try:
        structure = transfer_structure(ticket.structure, graph)
    except TickdslError as error:
        raise TicketError(
            f"the network of {path} was changed since it was written: {error.message}",
            "use the tickdsl and the code of the network that it was written with",
        ) from error
    view = GraphView(graph)
    dense = structure_metrics(graph, Structure.dense(graph))
    layers = tuple(_layers(view, structure))
    return TicketLayers(path, ticket, layers, structure_metrics(graph, structure), dense)


def as_json(shown: TicketLayers) -> dict[str, Any]:
    """The JSON object of a ticket; costs are per image."""
    ticket, sizes = shown.ticket, ("params", "macs", "sparsity", "filters", "neurons", "heads", "head-dims", "layers")
    return {
        "ticket": str(shown.path),
        "model": ticket.source.name,
        "options": dict(ticket.source.options),
        "shape": list(ticket.source.shape),
        "classes": list(ticket.classes),
        "task": ticket.task,
        "accuracy": ticket.metrics.get("accuracy"),
        "score": ticket.metrics.get("score", ticket.metrics.get("accuracy")),
        "metric": ticket.metrics.get("metric", "accuracy" if "accuracy" in ticket.metrics else None),
        "left": {name: shown.metrics[name] for name in sizes if name in shown.metrics},
        "dense": {name: shown.dense[name] for name in sizes if name in shown.dense},
        "layers": [attrs.asdict(layer) for layer in shown.layers],
        "removed_blocks": sorted(ticket.structure.removed_blocks),
    }


def print_ticket(shown: TicketLayers, console: Console) -> None:
    """Print what is left of each layer, and of the network."""
    source = shown.ticket.source
    outputs = "classes" if shown.ticket.task == "classify" else f"outputs, task {shown.ticket.task}"
    console.print(
        Text(f"ticket of {source.title}: {shape_in_words(source.shape)}, {source.classes} {outputs}", style="bold")
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("layer", overflow="fold")
    table.add_column("kind", no_wrap=True)
    for title in ("outputs", "of", "weights", "of", "left"):
        table.add_column(title, justify="right", no_wrap=True)
    for layer in shown.layers:
        cells = [_number(layer.outputs), _number(layer.dense_outputs), _number(layer.weights)]
        left = "removed" if layer.removed else percent(layer.weights / layer.dense_weights)
        table.add_row(Text(layer.path), layer.kind, *cells, _number(layer.dense_weights), left)
    console.print(table)
    for name, title in (("params", "parameters"), ("macs", "multiply-adds")):
        left, dense = shown.metrics[name], shown.dense[name]
        console.print(f"{title}: {left:,} of {dense:,} ({percent(left / dense)} left)")
    if shown.ticket.structure.removed_blocks:
        console.print(Text(f"removed layers: {', '.join(sorted(shown.ticket.structure.removed_blocks))}"))
    if (score := stored(shown.ticket.metrics)) is not None:
        console.print(Text(": ".join(score)))


def _layers(view: GraphView, structure: Structure) -> Iterator[LayerLeft]:
    left = remaining_by_layer(view.graph, structure)
    counts: dict[str, tuple[int, int]] = {}
    for name, (kept, dense) in remaining_weights(view.graph, structure).items():
        path = view.graph.weights[name].module
        before = counts.get(path, (0, 0))
        counts[path] = before[0] + kept, before[1] + dense
    for layer in view.layers:
        if layer.path in counts:
            kept, dense = counts[layer.path]
            outputs = left["outputs"].get(layer.path, layer.outputs)
            yield LayerLeft(layer.path, layer.kind, outputs, layer.outputs, kept, dense, kept == 0)


def _number(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"
