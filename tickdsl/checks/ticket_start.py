"""Check an arm that starts from a ticket: whether the ticket fits, and what the arm cannot do with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tickdsl.engine.plan_tickets import changed_code, plan_ticket
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.syntax import Span
from tickdsl.plan.model import Arm, Rewind

_TRAINED = "a ticket was trained before: the plan prunes it at once"


def diagnostics(arm: Arm, data: Path | None) -> Iterator[Diagnostic]:
    """Yield findings about the ticket that an arm starts from, if it does.

    Raises TicketError if the ticket is damaged or does not fit, other TickdslErrors if the network cannot be built.
    """
    ticket = plan_ticket(arm, data)
    if ticket is None:
        return
    for what, span, way_out in _needs_of_training(arm):
        yield Diagnostic("TD527", f"{what}, but {_TRAINED}", span, help=way_out)
    if changed_code(arm, ticket):
        yield Diagnostic(
            "TD528",
            f"the code of {arm.model.name} was changed since the ticket {ticket.path} was written: it may compute "
            "something else with the same weights",
            arm.model.span,
            help="compare the accuracy at level 0 with that of the ticket, or export the ticket again",
        )


def _needs_of_training(arm: Arm) -> Iterator[tuple[str, Span, str]]:
    """What of an arm refers to the training of its dense network: a clause, the place and the way out."""
    if arm.split is not None:
        yield "`split` trains the network on parts of the data first", arm.split.span, "remove `split` and `overlap`"
    first = arm.rounds[0].prune if arm.rounds else None
    if first is not None and first.at is not None:
        yield f"`at {first.at}` interrupts the first training", first.span, f"remove `at {first.at}`"
    if first is not None and first.settles is not None:
        yield "`until mask-distance` watches the first training", first.span, "give the prune an amount without `until`"
    for group in arm.distinct_rounds.values():
        for tail in group.tail:
            if isinstance(tail, Rewind) and tail.what == "weights" and tail.to.amount:
                hint = "use `rewind weights`, which goes back to the weights of the ticket, or `rewind lr`"
                yield f"`rewind weights to {tail.to}` goes back into the first training", tail.span, hint
