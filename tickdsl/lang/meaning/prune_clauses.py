"""Resolve one `prune` statement, clause by clause."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar

from tickdsl.lang import option_schemas, registries, syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.findings.suggestions import join_or
from tickdsl.lang.meaning import after_prune, searches, sparse_training
from tickdsl.lang.meaning.arm_context import ArmContext
from tickdsl.lang.meaning.default_notes import DefaultsReporter
from tickdsl.lang.meaning.prune_amounts import amount, amount_span, default_scope
from tickdsl.lang.meaning.values import InvalidValueError, ValueReader
from tickdsl.lang.reading.phrases import correct_phrase
from tickdsl.lang.writing.literals import format_value, percent
from tickdsl.moments import Moment
from tickdsl.plan import model
from tickdsl.plurals import plural

T = TypeVar("T")

#: The limit on the rounds of one arm.
MAX_ROUNDS = 10_000


def prune(statement: syntax.Prune, context: ArmContext) -> model.Prune:
    """Resolve a `prune` statement.

    Raises InvalidValueError if a clause is wrong, after reading all clauses, so that every error is reported.
    """
    clauses, reader = _ClauseReader(), context.reader
    for clause in statement.repeated:
        reader.report(Diagnostic("TD008", "this clause appears twice", clause.span, help="remove one of them"))
    unit = clauses.attempt(_unit, statement.unit, reader) or "filters"
    scope = clauses.attempt(_scope, statement.scope, unit, reader) or default_scope(statement.amount, reader)
    options = clauses.attempt(_options, statement, unit, reader) or {}
    gradual = clauses.attempt(sparse_training.gradual, statement if statement.gradual else None, options, reader)
    via = clauses.attempt(sparse_training.via, statement if statement.via else None, options, context)
    settles = (
        clauses.attempt(_settle_condition, statement.until, statement, reader)
        if _is_settling_condition(statement.until)
        else None
    )
    ends_early = _is_condition(statement.until) and not _is_settling_condition(statement.until)
    ends = clauses.attempt(_end_condition, statement.until, statement, reader) if ends_early else None
    until = None if _is_condition(statement.until) else clauses.attempt(_until, statement.until, statement, reader)
    matching = isinstance(statement.amount, syntax.Matching)
    once = _is_settling_condition(statement.until) or (statement.until is None and not matching)
    rounds = clauses.attempt(times, statement.times, reader) or (1 if once else None)
    taken = clauses.attempt(amount, statement.amount, statement, unit, scope, rounds, until, context)
    at = clauses.attempt(reader.moment, statement.at, "`at`")
    by = clauses.attempt(_criterion, statement.by, unit, at, reader) or registries.DEFAULT_CRITERIA[unit]
    within = clauses.attempt(_patterns, statement.within or None, reader) or ()
    protect = clauses.attempt(_patterns, statement.protect or None, reader) or ()
    if unit == "weights" and by in ("l1", "l2"):
        by = "magnitude"  # the norm of a single weight is its magnitude
    if clauses.failed or taken is None:
        raise InvalidValueError
    resolved = model.Prune(
        unit=unit,
        scope=scope,
        amount=taken,
        by=by,
        pictures="data" in registries.CRITERIA[by].needs,
        times=rounds,
        until=until,
        ends=ends,
        settles=settles,
        at=at,
        at_place=reader.locate(statement.at) if statement.at is not None else None,
        within=tuple(pattern for pattern, _ in within),
        protect=tuple(pattern for pattern, _ in protect),
        order=options.get("order", "lowest"),
        multiple=options.get("multiple", 1),
        evaluations=options.get("evaluations"),
        gradual=gradual,
        via=via,
        span=statement.span,
        amount_span=amount_span(statement.amount, reader),
        by_span=reader.origin_span(statement.by) if statement.by is not None else None,
        within_spans=tuple(span for _, span in within),
        protect_spans=tuple(span for _, span in protect),
        options_spans={option.key.text: option.span for option in statement.options},
    )
    if resolved.order == "highest" and by == "random":
        message = "`order=highest` has no effect on a random choice"
        span = resolved.options_spans["order"]
        reader.report(Diagnostic("TD119", message, span, help="remove it, or use another criterion"))
    searches.check_clauses(statement, resolved, reader)
    sparse_training.check_clauses(statement, resolved, reader)
    DefaultsReporter(reader.report).ranking(statement, resolved)
    if unit == "layers" and scope == "local" and statement.scope is not None:
        message = f"`{statement.scope.span.text}` has no effect on layers, which are always ranked together"
        reader.report_error("TD119", message, statement.scope, help="remove it")
    return resolved


def times(value: syntax.Value, reader: ValueReader) -> int:
    """Read a number of rounds, from 1 to `MAX_ROUNDS`."""
    rounds = reader.integer(value, "the number of rounds")
    if rounds < 1:
        message = f"`x {rounds}`: the number of rounds must be at least 1"
        raise reader.report_error("TD207", message, value, help="use e.g. `x 1`")
    if rounds > MAX_ROUNDS:
        message = f"{plural(rounds, 'round')} exceed the limit of {MAX_ROUNDS:,}"
        raise reader.report_error("TD207", message, value, help="prune more per round")
    return rounds


class _ClauseReader:
    """Reads optional clauses, and remembers whether one was wrong."""

    def __init__(self) -> None:
        self.failed = False

    def attempt(self, reading: Callable[..., T], clause: Any, *rest: Any) -> T | None:
        """Return `reading(clause, *rest)`, or None if there is no clause or it is wrong."""
        if clause is None:
            return None
        try:
            return reading(clause, *rest)
        except InvalidValueError:
            self.failed = True
            return None


def _unit(value: syntax.Value, reader: ValueReader) -> str:
    unit = reader.word(value, vocabulary.UNITS, "unit")
    return "layers" if unit == "blocks" else unit


def _scope(value: syntax.Value, unit: str, reader: ValueReader) -> str:
    scope = reader.word(value, vocabulary.SCOPES, "scope")
    if scope in vocabulary.DENSITY_SCOPES and unit != "weights":
        raise reader.report_error(
            "TD435",
            f"`{scope}` sets densities of weights, but this prunes {unit}",
            value,
            help=f"use `prune weights {scope} …`, or the scope `global` or `local`",
        )
    return "local" if scope == "uniform" else scope


def _options(statement: syntax.Prune, unit: str, reader: ValueReader) -> dict[str, Any]:
    def correct(option: syntax.Option) -> str | None:
        return correct_phrase(statement.span.text, option.span.start - statement.span.start)

    values = reader.options(statement.options, option_schemas.PRUNE_OPTIONS, "prune", correct)
    if len(values) < len(statement.options):
        raise InvalidValueError
    if values.get("multiple", 1) > 1 and unit not in vocabulary.CHANNEL_UNITS:
        (option,) = (option for option in statement.options if option.key.text == "multiple")
        raise reader.report_error(
            "TD436",
            f"`multiple=` is about the number of {', '.join(vocabulary.CHANNEL_UNITS[:-1])} or "
            f"{vocabulary.CHANNEL_UNITS[-1]} of a layer, which pruning {unit} does not change",
            option.value,
            help=f"remove it, or prune {join_or(vocabulary.CHANNEL_UNITS)}",
        )
    return values


def _patterns(values: tuple[syntax.Value, ...], reader: ValueReader) -> tuple[tuple[str, syntax.Span], ...]:
    """The layer patterns, each with its origin; a `$name` may refer to a list of patterns."""
    return tuple(
        (item.text if isinstance(item, syntax.String | syntax.Word) else format_value(item), item.span)
        for value in values
        for item in map(reader.dereference, reader.items(value))
    )


def _criterion(value: syntax.Value, unit: str, at: Moment | None, reader: ValueReader) -> str:
    name = reader.table_name(value, registries.CRITERIA, "TD103")
    criterion = registries.CRITERIA[name]
    fitting = {n: c for n, c in registries.CRITERIA.builtin.items() if unit in c.units}
    if unit not in criterion.units:
        raise reader.report_error(
            "TD312",
            f"`by {name}` cannot rank {unit}, only {join_or(criterion.units)}",
            value,
            help=f"criteria for {unit}: {', '.join(fitting)}",
        )
    if at is not None and not at.amount and "training" in criterion.needs:
        useful = [n for n, c in fitting.items() if "training" not in c.needs]
        raise reader.report_error(
            "TD311",
            f"`by {name}` needs a trained network, but `at init` prunes before any training",
            value,
            help=f"prune later, or use one of these criteria: {', '.join(useful)}",
        )
    return name


def _is_condition(value: syntax.Value | syntax.Condition | None) -> bool:
    return isinstance(value, syntax.Condition)


def _is_settling_condition(value: syntax.Value | syntax.Condition | None) -> bool:
    return isinstance(value, syntax.Condition) and value.metric.text == vocabulary.MASK_DISTANCE


def _settle_condition(condition: syntax.Condition, statement: syntax.Prune, reader: ValueReader) -> model.Condition:
    """`until mask-distance < 0.1`: computes the mask after every epoch, and prunes once it stops changing."""
    bound = float(reader.share(condition.bound, f"`{vocabulary.MASK_DISTANCE}`"))
    if condition.comparison not in ("<", "<=") or not bound:
        message = "`until mask-distance` needs an upper bound above 0"
        reader.report(Diagnostic("TD201", message, condition.span, help="use e.g. `until mask-distance < 0.1`"))
        raise InvalidValueError
    if statement.times is not None:
        raise reader.report_error(
            "TD209",
            "`until mask-distance` prunes once and cannot be combined with `x N`",
            statement.times,
            help="remove `x N`; to repeat the prune and what follows it, use `cycle N { … }`",
        )
    return model.Condition(vocabulary.MASK_DISTANCE, condition.comparison, bound, span=condition.span)


def _end_condition(condition: syntax.Condition, statement: syntax.Prune, reader: ValueReader) -> model.Condition:
    """`until accuracy < 95%`: the rounds end at the first level that meets the condition."""
    resolved = after_prune.condition(condition, reader)
    if isinstance(statement.amount, syntax.TargetAmount) and statement.times is None:
        reader.report(
            Diagnostic(
                "TD209",
                "`to …` takes a single round, so `until` has no rounds to end",
                condition.span,
                help="add a number of rounds (`x 8`), or prune an amount per round (`20%`)",
            )
        )
        raise InvalidValueError
    return resolved


def _until(value: syntax.Value, statement: syntax.Prune, reader: ValueReader) -> Fraction:
    share = reader.share(value, "`until`")
    if not 0 < share < 1:
        message = f"`until {percent(share)}` is out of range: it must be above 0% and below 100%"
        raise reader.report_error("TD201", message, value)
    if isinstance(statement.amount, syntax.TargetAmount):
        raise reader.report_error(
            "TD209",
            "`to …` and `until …` cannot be combined",
            value,
            secondary=(Label(statement.amount.span, "the target"),),
            help="use `20% until 98%` (rounds of 20%) or `to 98% x 8` (8 rounds)",
        )
    return share
