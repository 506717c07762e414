"""Resolve a parsed plan to a `Plan`: fill in defaults, follow variables, expand sweeps and arms. Imports no torch.

All errors are collected as findings; a `Plan` results only if there are none.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs

from tickdsl.lang import option_schemas, syntax
from tickdsl.lang.findings import internal_errors
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.findings.render import sorted_unique
from tickdsl.lang.meaning import settings, variables
from tickdsl.lang.meaning.arm_expansion import IMPLICIT_ARM_NAME, ArmExpander, check_settings_once
from tickdsl.lang.meaning.cascades import UnparsedText
from tickdsl.lang.meaning.default_notes import DefaultsReporter, comparison_options
from tickdsl.lang.meaning.questions import QuestionResolver, with_dependencies
from tickdsl.lang.meaning.values import MAX_VALUES, InvalidValueError, ValueReader
from tickdsl.lang.reading.include import LoadedPlan
from tickdsl.plan import model

T = TypeVar("T")


@attrs.frozen
class ResolvedPlan:
    """The result of resolving a plan: the plan, or None if there are errors, and all findings.

    `readable` holds the arms without errors even if there are errors elsewhere, for further checks.
    """

    plan: model.Plan | None
    diagnostics: tuple[Diagnostic, ...]
    readable: model.Plan | None = None

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if d.severity == "error")


def resolve(loaded: LoadedPlan) -> ResolvedPlan:
    """Resolve the statements of a plan."""
    resolver = _Resolver(loaded)
    plan = resolver.plan()
    unparsed = UnparsedText(loaded)
    collected = [*loaded.diagnostics, *(d for d in resolver.diagnostics if not unparsed.may_explain(d))]
    diagnostics = sorted_unique(loaded.with_include_chain(d) for d in collected)
    if not any(d.severity == "error" for d in diagnostics):
        return ResolvedPlan(plan, diagnostics, plan)
    # If a setting is set twice, it is unclear which one counts.
    unclear = [d.span for d in resolver.diagnostics if d.code == "TD108"]
    arms = tuple(
        arm
        for arm in (plan.arms if plan else ())
        if arm.id in resolver.arms.valid_arms
        and not unparsed.affects(arm.span)
        and not unparsed.affected_by(unclear, arm.span)
    )
    return ResolvedPlan(None, diagnostics, attrs.evolve(plan, arms=arms) if plan and arms else None)


class _Resolver:
    """Resolves one plan, collecting its findings in `diagnostics`."""

    def __init__(self, loaded: LoadedPlan) -> None:
        self.loaded = loaded
        self.statements = loaded.statements
        self.diagnostics: list[Diagnostic] = []
        self.variables = variables.collect(self.statements, self.report)
        self.constants = ValueReader(self.variables.lets, self.report, frozenset(self.variables.sweeps))
        self.arms = ArmExpander(loaded, self.variables, self.diagnostics)

    def report(self, diagnostic: Diagnostic) -> None:
        self.diagnostics.append(diagnostic)

    def _attempt(self, work: Callable[[], T], default: Any, span: syntax.Span | None = None) -> T:
        """The result of `work`; if tickdsl itself fails, the failure is reported and the other parts are resolved."""
        place = span or settings.first_word_span(self.loaded.source)
        return internal_errors.attempt(work, default, place, self.report)

    def plan(self) -> model.Plan | None:
        attempt = self._attempt
        attempt(self._check_version, None)
        attempt(partial(check_settings_once, self.statements, self.diagnostics), None)
        attempt(partial(variables.report_unused, self.statements, self.variables, self.report), None)
        seeds = attempt(self._resolve_seeds, (1,))
        declared = attempt(self.arms.declared_arms, [])
        expanded = (attempt(partial(self.arms.expand, statement), [], statement.span) for statement in declared)
        arms = tuple(itertools.chain.from_iterable(expanded))
        attempt(partial(self.arms.check_circular, arms), None)
        questions = QuestionResolver(self.statements, self.constants, self.diagnostics)
        named = [s.name.text for s in declared]
        compared, controls, options = attempt(partial(questions.resolve_compare, named, arms), (None, (), {}))
        metrics, measuring = attempt(questions.metrics, ((), model.MeasurementOptions()))
        lines = attempt(partial(questions.lines, named or [IMPLICIT_ARM_NAME]), ())
        stops = attempt(questions.stops, ())
        if not syntax.of_type(self.statements, *syntax.PIPELINE, syntax.Arm, syntax.Compare):
            self._report_empty()
        helpers: tuple[model.Arm, ...] = ()
        if compared is not None:
            needed = with_dependencies(arms, compared) - compared
            helpers = tuple(arm for arm in arms if arm.name in needed)
            arms = tuple(arm for arm in arms if arm.name in compared)
        if not arms:
            return None
        path = self.loaded.source.path
        plan = model.Plan(
            name=Path(path).stem or "plan",
            path=path,
            arms=arms,
            seeds=seeds,
            rivals=controls,
            rival_levels=options.get("levels", "all"),
            rival_budget=options.get("budget", "epochs"),
            rival_match=options.get("match", "units"),
            within=Fraction(str(options.get("within", 0))),
            matched_by=options.get("at", "weights"),
            metric=options.get("metric", ""),
            metrics=metrics,
            lines=lines,
            measuring=measuring,
            stops=stops,
            helpers=helpers,
            compare_span=next((s.span for s in syntax.of_type(self.statements, syntax.Compare)), None),
            metric_span=next(
                (
                    option.value.span
                    for statement in syntax.of_type(self.statements, syntax.Compare)
                    for option in statement.options
                    if option.key.text == "metric"
                ),
                None,
            ),
            report_span=next((s.span for s in syntax.of_type(self.statements, syntax.Report)), None),
        )
        defaults = DefaultsReporter(self.report)
        for statement in syntax.of_type(self.statements, syntax.Compare)[:1]:
            defaults.options(statement, comparison_options(plan), option_schemas.COMPARE_OPTIONS)
        for statement in syntax.of_type(self.statements, syntax.Report)[:1]:
            defaults.measuring(statement, plan)
        return plan

    def _report_empty(self) -> None:
        self.report(
            Diagnostic(
                "TD002",
                "this plan has no `prune`, so there is nothing to run",
                settings.first_word_span(self.loaded.source),
                help="add e.g. `prune filters global 20% x 8; rewind lr`",
            )
        )

    def _check_version(self) -> None:
        for statement in syntax.of_type(self.statements, syntax.Version):
            if statement.number != 1:
                self.report(
                    Diagnostic(
                        "TD005",
                        f"`plan {statement.number}` needs another version of tickdsl; this one reads `plan 1`",
                        statement.span,
                        help="use `plan 1`, or update tickdsl",
                    )
                )

    def _resolve_seeds(self) -> tuple[int, ...]:
        for statement in syntax.of_type(self.statements, syntax.Seeds)[:1]:
            try:
                value = self.constants.dereference(statement.value)
                if isinstance(value, syntax.Number):
                    number = self.constants.integer(statement.value, "the number of seeds", 1)
                    if number > MAX_VALUES:
                        message = f"{number:,} seeds exceed the limit of {MAX_VALUES:,}"
                        raise self.constants.report_bad_value(statement.value, message)
                    return tuple(range(1, 1 + number))
                seeds = [self.constants.integer(v, "a seed", 0) for v in self.constants.items(value)]
            except InvalidValueError:
                return (1,)
            for seed in (seed for seed, times in Counter(seeds).items() if times > 1):
                help = "remove the duplicate"
                self.report(Diagnostic("TD504", f"seed {seed} appears twice", statement.value.span, help=help))
            if not seeds:
                help = "use e.g. `seeds 3`"
                self.report(Diagnostic("TD105", "`seeds` names no seed", statement.value.span, help=help))
            return tuple(dict.fromkeys(seeds)) or (1,)
        return (1,)
