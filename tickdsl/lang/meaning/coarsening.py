"""Resolve `refill` and `regroup`, which give the mask of a ticket a coarser form."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from tickdsl.lang import option_schemas, syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.meaning.arm_context import ArmContext
from tickdsl.lang.meaning.default_notes import DefaultsReporter
from tickdsl.lang.meaning.values import InvalidValueError
from tickdsl.plan import model

_DEFAULT_CRITERION = "l1"


def refill(statement: syntax.Refill, context: ArmContext) -> model.Refill:
    """Resolve a `refill` statement. Raises InvalidValueError, after reporting it, if it is wrong."""
    reader = context.reader
    unit = reader.word(statement.unit, vocabulary.UNITS, "unit")
    if unit != "filters":
        message = f"`refill` fills the filters of convolutions, not {unit}"
        raise reader.report_error("TD489", message, statement.unit, help="use `refill filters …`")
    by = _DEFAULT_CRITERION
    if statement.by is not None:
        by = reader.word(statement.by, vocabulary.REFILL_CRITERIA, "criterion", "TD103")
    options = _options(statement, option_schemas.REFILL_OPTIONS, "refill", context)
    DefaultsReporter(reader.report).refill(statement, by)
    return model.Refill(by, Fraction(options.get("extra", 0)), pictures=by == "saliency", span=statement.span)


def regroup(statement: syntax.Regroup, context: ArmContext) -> model.Regroup:
    """Resolve a `regroup` statement. Raises InvalidValueError, after reporting it, if it is wrong."""
    options = _options(statement, option_schemas.REGROUP_OPTIONS, "regroup", context)
    resolved = model.Regroup(**{name.replace("-", "_"): value for name, value in options.items()}, span=statement.span)
    values = {"groups": resolved.groups, "ratio": resolved.ratio, "min-rows": resolved.min_rows}
    DefaultsReporter(context.reader.report).options(statement, values, option_schemas.REGROUP_OPTIONS)
    return resolved


def _options(
    statement: syntax.Refill | syntax.Regroup,
    schema: dict[str, option_schemas.OptionType],
    keyword: str,
    context: ArmContext,
) -> dict[str, Any]:
    """The options that are written. Raises InvalidValueError if one is wrong, or the arm has a `split`."""
    options = context.reader.options(statement.options, schema, keyword)
    if len(options) < len(statement.options):
        raise InvalidValueError
    if context.split is not None:
        context.reader.report(
            Diagnostic(
                "TD491",
                f"`{keyword}` cannot be combined with `split`: the parts rank the filters of one ticket differently",
                statement.span,
                secondary=(Label(context.split.span, "split here"),),
                help="remove one of them",
            )
        )
        raise InvalidValueError
    return options
