"""Report settings of the plan that every arm replaces by its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic, Label


def unused_settings(statements: Sequence[syntax.Statement], arms: Sequence[syntax.Arm]) -> Iterator[Diagnostic]:
    """Yield TD523 for each setting before the arms that none of them uses."""
    if not arms or any(isinstance(statement, syntax.PIPELINE) for statement in statements):
        return  # prunes before the arms are trained by the settings of the plan
    for statement in syntax.of_type(statements, *syntax.SETTINGS):
        replacements = [_replacement(statement, arm) for arm in arms]
        if all(replacement is not None for replacement in replacements):
            keyword = statement.span.text.split()[0]
            first = next(replacement for replacement in replacements if replacement is not None)
            yield Diagnostic(
                "TD523",
                f"this `{keyword}` has no effect: every arm has its own",
                statement.span,
                secondary=(Label(first.span, f"used in arm `{arms[0].name.text}` instead"),),
                help=f"remove it, or the `{keyword}` of the arms that are to use it",
            )


def _replacement(statement: syntax.Statement, arm: syntax.Arm) -> syntax.Statement | None:
    """The setting of an arm that replaces one of the plan, if there is one."""
    kinds: tuple[type, ...] = (type(statement),)
    own = syntax.of_type(arm.body, *kinds)
    if isinstance(statement, syntax.Data):
        own = [*own, *(model for model in syntax.of_type(arm.body, syntax.Model) if model.data)]
    if isinstance(statement, syntax.Model) and statement.data:
        own = [model for model in own if model.data or syntax.of_type(arm.body, syntax.Data)]
    return own[0] if own else None
