"""Check `stretch` and `squeeze`: can the ticket be carried (TD496), and which block goes where (TD497)?

Of a narrower network, `squeezed_layers` checks that all layers get something of the ticket.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

from tickdsl.checks import squeezed_layers
from tickdsl.engine.graph_cache import dense_graph
from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.plan.model import Arm
from tickdsl.pruning.elastic import ElasticError, block_map


def diagnostics(arm: Arm, graph: ModelGraph, data: Path | None) -> Iterator[Diagnostic]:
    """Yield what is wrong with the `stretch` or `squeeze` of an arm, or else which block goes where.

    graph: of the arm's own network.
    """
    elastic = arm.elastic
    if elastic is None:
        return
    label = (Label(arm.model.span, "the network that is pruned"),) if arm.model.span is not None else ()
    verb, name = elastic.verb, elastic.model.name
    try:
        target = dense_graph(attrs.evolve(arm, model=elastic.model), data)
        mapping = block_map(graph, target, elastic.rule)
    except ElasticError as error:
        yield Diagnostic(
            "TD496",
            f"a ticket of {arm.model.name} cannot be {verb}{'ed' if verb == 'stretch' else 'd'} to {name}: "
            f"{error.message}",
            elastic.span,
            secondary=label,
            help=error.hint or "use a network of the same family and width with another number of blocks",
        )
        return
    except TickdslError as error:  # the network does not fit the data, or cannot be built
        yield Diagnostic("TD413", error.message, elastic.model.span, help=error.hint)
        return
    message = f"`{verb} to {name}` fills its stages with blocks of {arm.model.name}: {mapping}"
    yield Diagnostic("TD497", message, elastic.span)
    yield from squeezed_layers.diagnostics(arm, graph, target, mapping)
