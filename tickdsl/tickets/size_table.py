"""The size and speed of an exported ticket beside those of the dense network."""

from __future__ import annotations

import torch
from torch import nn

from tickdsl.engine.steps.network_size import structure_metrics
from tickdsl.graph.structure import Structure
from tickdsl.metrics.latency import LATENCY, measure_latency
from tickdsl.results.formatting import count, percent, quantity
from tickdsl.results.scores import stored
from tickdsl.tickets.choice import DENSE
from tickdsl.tickets.exporting import Exported
from tickdsl.tickets.from_run import TicketOfRun
from tickdsl.tickets.preprocessing import Preprocessing
from tickdsl.tickets.rebuilding import probe_images


def size_table(taken: TicketOfRun, exported: Exported) -> list[str]:
    """Lines with score, parameters, multiply-adds, bytes and latency of the exported network and of the dense one.

    The latency is that of one image on one core of this machine's CPU, with weights of float32; it is measured now.
    """
    ticket = taken.ticket
    accuracy = exported.verified.accuracy
    name, score = stored(ticket.metrics) or ("accuracy", percent(None))
    rows = [
        (name, score if accuracy is None else percent(accuracy, 2)),
        ("parameters", count(ticket.metrics.get("params"))),
        ("multiply-adds", count(ticket.metrics.get("macs"))),
        ("bytes", quantity(exported.bytes, "B")),
        ("latency, 1 image", quantity(_latency(taken.subject.network, ticket.preprocessing), "s")),
    ]
    if taken.choice.contestant == DENSE:
        return _aligned([("", DENSE), *rows])
    dense = structure_metrics(taken.dense.graph, Structure.dense(taken.dense.graph))
    _, known = stored(ticket.metrics.get("dense", {})) or (name, percent(None))
    others = [
        known,
        count(dense["params"]),
        count(dense["macs"]),
        quantity(_weight_bytes(taken.dense.module), "B"),
        quantity(_latency(taken.dense.module, ticket.preprocessing), "s"),
    ]
    pairs = [(name, own, other) for (name, own), other in zip(rows, others, strict=True)]
    return _aligned([("", taken.choice.contestant, DENSE), *pairs])


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _weight_bytes(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


def _latency(module: nn.Module, preprocessing: Preprocessing) -> float:
    """Seconds for one image on one core."""
    return measure_latency(module, probe_images(preprocessing)[:1], device=torch.device("cpu"))[LATENCY]
