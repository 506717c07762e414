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
from tickdsl.tickets.preprocessing import InputPreprocessing
from tickdsl.tickets.rebuilding import probe_inputs
from tickdsl.tickets.ticket import Ticket
from tickdsl.tickets.verification import metric_value
from tickdsl.training.tasks import find_task


def size_table(taken: TicketOfRun, exported: Exported) -> list[str]:
    """Lines with score, parameters, multiply-adds, bytes and latency of the exported network and of the dense one.

    The latency is that of one input on one core of this machine's CPU, with weights of float32; it is measured now.
    """
    ticket = taken.ticket
    name, _ = stored(ticket.metrics) or ("accuracy", "")
    score = ticket.score if exported.verified.score is None else exported.verified.score
    unit = ticket.preprocessing.unit
    rows = [
        (name, _value(ticket, score)),
        ("parameters", count(ticket.metrics.get("params"))),
        ("multiply-adds", count(ticket.metrics.get("macs"))),
        ("bytes", quantity(exported.bytes, "B")),
        (f"latency, 1 {unit}", quantity(_latency(taken.subject.network, ticket.preprocessing), "s")),
    ]
    if taken.choice.contestant == DENSE:
        return _aligned([("", DENSE), *rows])
    dense = structure_metrics(taken.dense.graph, Structure.dense(taken.dense.graph))
    known = ticket.metrics.get("dense", {})
    others = [
        _value(ticket, known.get("score", known.get("accuracy"))),
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


def _value(ticket: Ticket, score: float | None) -> str:
    """A value of the metric that a ticket is judged by, without its name."""
    if score is None or ticket.metric == "accuracy":
        return percent(score, 2)
    metric = next((known for known in find_task(ticket.task).metrics if known.name == ticket.metric), None)
    return f"{score:.4g}" if metric is None else metric_value(metric, score)


def _weight_bytes(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


def _latency(module: nn.Module, preprocessing: InputPreprocessing) -> float:
    """Seconds for one input on one core."""
    return measure_latency(module, probe_inputs(preprocessing)[:1], device=torch.device("cpu"))[LATENCY]
