"""Check an arm that starts from a ticket: whether the ticket fits, and what the arm cannot do with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tickdsl.checks.schedules import prunes_while_training
from tickdsl.checks.traced_prune import TracedPrune
from tickdsl.engine.graph_cache import dense_graph
from tickdsl.engine.plan_tickets import PlanTicket, changed_code, plan_ticket
from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.syntax import Span
from tickdsl.lang.writing.literals import percent
from tickdsl.plan.model import Arm, Rewind, To

_TRAINED = "a ticket was trained before: the plan prunes it at once"


def diagnostics(arm: Arm, data: Path | None) -> Iterator[Diagnostic]:
    """Yield findings about the ticket that an arm starts from, if it does.

    Raises TicketError if the ticket is damaged or does not fit, other TickdslErrors if the network cannot be built.
    """
    ticket = plan_ticket(arm, data)
    if ticket is None:
        return
    needs = () if arm.model.has_mapped_weights else _needs_of_training(arm)  # a part of a network was not trained
    for what, span, way_out in needs:
        yield Diagnostic("TD527", f"{what}, but {_TRAINED}", span, help=way_out)
    yield from _reached_targets(arm, ticket, dense_graph(arm, data))
    if changed_code(arm, ticket):
        yield Diagnostic(
            "TD528",
            f"the code of {arm.model.name} was changed since the ticket {ticket.path} was written: it may compute "
            "something else with the same weights",
            arm.model.span,
            help="compare the accuracy at level 0 with that of the ticket, or export the ticket again",
        )


def _reached_targets(arm: Arm, ticket: PlanTicket, graph: ModelGraph) -> Iterator[Diagnostic]:
    """Yield a finding if the ticket has reached the target of the first prune already."""
    prune = arm.rounds[0].prune if arm.rounds else None
    if prune is None:
        return
    target = prune.amount.share if isinstance(prune.amount, To) else prune.until
    if target is None:
        return
    traced = TracedPrune(arm, prune, graph, is_first=True, is_only=len(arm.rounds) == 1)
    try:
        scope = traced.scope()
    except TickdslError:
        return  # the prune has a finding of its own
    if scope.removed >= float(target) * scope.total - 1e-9:
        word = "to" if isinstance(prune.amount, To) else "until"
        removed = percent(scope.removed / scope.total)
        yield Diagnostic(
            "TD529",
            f"`{word} {percent(target)}` is reached before the first round: the ticket {ticket.path} has lost "
            f"{removed} of the {prune.unit} of its dense network",
            prune.amount_span if word == "to" and prune.amount_span is not None else prune.span,
            help="targets count from the dense network: choose one above that, or an amount such as `20% x 2`",
        )


def _needs_of_training(arm: Arm) -> Iterator[tuple[str, Span, str]]:
    """What of an arm refers to the training of its dense network: a clause, the place and the way out."""
    if arm.split is not None:
        yield "`split` trains the network on parts of the data first", arm.split.span, "remove `split` and `overlap`"
    first = arm.rounds[0].prune if arm.rounds and not arm.cycles else None  # a cycle trains before it
    if first is not None and first.at is not None:
        yield f"`at {first.at}` interrupts the first training", first.span, f"remove `at {first.at}`"
    if first is not None and first.settles is not None:
        yield "`until mask-distance` watches the first training", first.span, "give the prune an amount without `until`"
    if first is not None and prunes_while_training(first):
        clause = "`via zeroing`" if first.gradual is None else "`from … to … every …`"
        yield f"{clause} prunes in the first training", first.span, "prune in a later round, after a `rewind lr`"
    if first is not None and first.by == "delta" and first.gradual is None:
        yield "`by delta` ranks by what the first training changed", first.span, "use another criterion"
    for tail in arm.distinct_tails:
        if isinstance(tail, Rewind) and tail.what != "lr" and tail.to.amount:
            hint = f"use `rewind {tail.what}`, which goes back to the weights of the ticket, or `rewind lr`"
            yield f"`rewind {tail.what} to {tail.to}` goes back into the first training", tail.span, hint
