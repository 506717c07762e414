"""Resolve cycles of training alone: `cycle 3 { rewind lr }`."""

from __future__ import annotations

from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.meaning import after_prune, prune_clauses
from tickdsl.lang.meaning.arm_context import ArmContext
from tickdsl.lang.meaning.values import InvalidValueError, ValueReader
from tickdsl.plan import model

#: What a round without a prune can hold.
_STATEMENTS = (syntax.Rewind, syntax.Perturb, syntax.Grow, syntax.Retrain, syntax.Distill, syntax.Evolve)


def trains_only(statement: syntax.Cycle) -> bool:
    """Whether a cycle is one of training alone: it holds statements of rounds, and no prune or other block."""
    return bool(statement.body) and all(
        isinstance(inner, (*_STATEMENTS, syntax.Overlap, syntax.Recalibrate)) for inner in statement.body
    )


def resolve(statement: syntax.Cycle, context: ArmContext, *, is_dense: bool = False) -> model.TrainingCycle:
    """Resolve a cycle of training; `is_dense`: nothing was pruned before it.

    Raises InvalidValueError, after reporting it, if it is wrong.
    """
    reader = context.reader
    times = prune_clauses.times(statement.times, reader)
    tails: list[model.Tail] = []
    whole = True
    for inner in statement.body:
        if not isinstance(inner, _STATEMENTS):
            _report_idle(inner, type(inner).__name__.lower(), "in a `cycle` without a prune", reader)
            whole = False
            continue
        try:
            added = after_prune.tail(inner, context)
            if is_dense and isinstance(added, model.MaskOf):
                _report_idle(inner, "rewind mask", "before the first `prune`: there are no masks yet", reader)
                raise InvalidValueError
            after_prune.check_order(tails, added, reader)
            if not any(isinstance(tail, model.Rewind | model.Retrain) for tail in tails):
                after_prune.require_training(added, "in its round", reader)
            tails.append(added)
        except InvalidValueError:
            whole = False
    if not whole:
        raise InvalidValueError
    useless = _uselessness(statement, times, tails)
    if useless is not None:
        reader.report(useless)
        raise InvalidValueError
    return model.TrainingCycle(times, tuple(tails), span=statement.span)


def _report_idle(statement: syntax.Statement, keyword: str, where: str, reader: ValueReader) -> None:
    message = f"`{keyword}` has nothing to do {where}"
    reader.report(Diagnostic("TD541", message, statement.span, help="put it directly after a `prune`"))


def _uselessness(statement: syntax.Cycle, times: int, tails: list[model.Tail]) -> Diagnostic | None:
    """The finding about a cycle that trains nothing, or the same in every round; None if it is neither."""
    if not any(isinstance(tail, model.Rewind | model.Retrain) for tail in tails):
        help = "add `rewind lr` or `retrain …`, or a `prune`"
        return Diagnostic("TD541", "this `cycle` trains nothing", statement.span, help=help)
    again = next((tail for tail in tails if _starts_over(tail)), None)
    changes = any(isinstance(tail, model.MaskOf | model.Perturb | model.Grow) for tail in tails)
    if times == 1 or again is None or changes:
        return None
    keyword = f"rewind {again.what}" if isinstance(again, model.Rewind) else "retrain scratch"
    message = f"every round of this `cycle` repeats the same training, which `{keyword}` starts over"
    return Diagnostic("TD541", message, again.span, help="use `rewind lr` to train on, or remove the `cycle`")


def _starts_over(tail: model.Tail) -> bool:
    """Whether a training starts from weights that do not depend on the round before it."""
    if isinstance(tail, model.Rewind):
        return tail.what == "weights" and not tail.current
    return isinstance(tail, model.Retrain) and tail.fresh
