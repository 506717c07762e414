"""What a prune whose amounts are searched can be combined with."""

from __future__ import annotations

from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.meaning.values import InvalidValueError, ValueReader
from tickdsl.plan import model
from tickdsl.plan.search_steps import SEARCHED


def check_clauses(statement: syntax.Prune, resolved: model.Prune, reader: ValueReader) -> None:
    """Raise InvalidValueError, after reporting TD447, for what a search cannot be combined with.

    A search evaluates finished selections, so it takes place between trainings and not within one.
    """
    conflict = _conflict(statement, resolved)
    if conflict is not None:
        message, span, help = conflict
        reader.report(Diagnostic("TD447", message, span, help=help))
        raise InvalidValueError


def _conflict(statement: syntax.Prune, resolved: model.Prune) -> tuple[str, syntax.Span, str] | None:
    if resolved.scope != SEARCHED:
        option = next((option for option in statement.options if option.key.text == "evaluations"), None)
        if option is None:
            return None
        message = f"`evaluations=` has no effect with the scope `{resolved.scope}`, which evaluates nothing"
        return message, option.span, f"remove it, or use the scope `{SEARCHED}`"
    between = "use the scope `global` or `local`, or prune after the training"
    if resolved.gradual is not None:
        message = f"`{SEARCHED}` chooses once, and cannot be combined with `from … to … every …`"
        return message, resolved.gradual.span, between
    if isinstance(resolved.via, model.Zeroing) and statement.via is not None:
        return f"`{SEARCHED}` chooses once, and cannot be combined with `via zeroing`", statement.via.span, between
    if resolved.settles is not None:
        message = f"`{SEARCHED}` chooses once, and `until mask-distance` after every epoch"
        return message, resolved.settles.span, between
    return None
