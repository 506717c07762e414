"""AST to Plan: defaults filled in, lets followed, sweeps expanded, arms forked. No torch.

Everything that is wrong is collected as findings; a Plan comes out only where there is no error.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import attrs

from tickdsl.lang import syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.findings.render import sorted_unique
from tickdsl.lang.meaning import pipeline, settings
from tickdsl.lang.meaning.after_prune import ArmContext
from tickdsl.lang.meaning.cascades import UnparsedText
from tickdsl.lang.meaning.default_notes import DefaultsReporter, comparison_options
from tickdsl.lang.meaning.questions import QuestionResolver, with_dependencies
from tickdsl.lang.meaning.sweep_diagnostics import SweepDiagnostics
from tickdsl.lang.meaning.values import MAX_VALUES, InvalidValueError, ValueReader
from tickdsl.lang.reading.include import LoadedPlan
from tickdsl.lang.writing.literals import format_value
from tickdsl.plan import model

#: The name of the arm of a plan that names none.
IMPLICIT_ARM_NAME = "ticket"
#: More arms than this are not expanded.
MAX_ARMS = 10_000


@attrs.frozen
class ResolvedPlan:
    """A plan, where its text allows one, and all findings.

    `readable` holds the arms without mistakes, also where there are errors elsewhere: what is checked further.
    """

    plan: model.Plan | None
    diagnostics: tuple[Diagnostic, ...]
    readable: model.Plan | None = None

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.diagnostics if d.severity == "error")


def resolve(loaded: LoadedPlan) -> ResolvedPlan:
    """The plan that the statements mean."""
    resolver = _Resolver(loaded)
    plan = resolver.plan()
    lost = UnparsedText(loaded)
    found = [*loaded.diagnostics, *(d for d in resolver.diagnostics if not lost.may_explain(d))]
    diagnostics = sorted_unique(loaded.with_include_chain(d) for d in found)
    if not any(d.severity == "error" for d in diagnostics):
        return ResolvedPlan(plan, diagnostics, plan)
    # Which of two settings holds nobody knows.
    unclear = [d.span for d in resolver.diagnostics if d.code == "TD108"]
    arms = tuple(
        arm
        for arm in (plan.arms if plan else ())
        if arm.id in resolver.valid_arms and not lost.affects(arm.span) and not lost.affected_by(unclear, arm.span)
    )
    return ResolvedPlan(None, diagnostics, attrs.evolve(plan, arms=arms) if plan and arms else None)


def _refs(node: object) -> set[str]:
    return {n.name for n in syntax.walk(node) if isinstance(n, syntax.Ref)}


class _Resolver:
    """One pass over the statements; the findings gather beside it."""

    def __init__(self, loaded: LoadedPlan) -> None:
        self.loaded = loaded
        self.statements = loaded.statements
        self.diagnostics: list[Diagnostic] = []
        #: The arms that were built without an error.
        self.valid_arms: set[str] = set()
        self.names: list[str] = []
        self.expanded_count = 0
        self.prefix = tuple(s for s in self.statements if isinstance(s, syntax.PIPELINE))
        self.shared = [s for s in self.statements if isinstance(s, syntax.SETTINGS)]
        self.lets = self._collect_lets()
        self.sweeps = self._collect_sweeps()
        self.constants = ValueReader(self.lets, self.report, frozenset(self.sweeps))
        self._check_lets()

    def report(self, diagnostic: Diagnostic) -> None:
        self.diagnostics.append(diagnostic)

    # -- variables

    def _collect_lets(self) -> dict[str, syntax.Value]:
        lets: dict[str, syntax.Value] = {}
        places: dict[str, syntax.Span] = {}
        sweeps = {s.name.text for s in syntax.of_type(self.statements, syntax.Sweep)}
        for statement in syntax.of_type(self.statements, syntax.Let):
            name = statement.name.text
            if name in places or name in sweeps:
                self._report_duplicate(f"`{name}`", statement.name.span, places.get(name))
                continue
            places[name] = statement.name.span
            lets[name] = statement.value
        return lets

    def _check_lets(self) -> None:
        """Lets may name each other and sweeps in any order; what they name has to be there."""
        first = {name: values[0] for name, values in self.sweeps.items()}
        for statement in syntax.of_type(self.statements, syntax.Let):
            with contextlib.suppress(InvalidValueError):
                ValueReader({**self.lets, **first}, self.report).dereference(statement.value)

    def _collect_sweeps(self) -> dict[str, tuple[syntax.Value, ...]]:
        sweeps: dict[str, tuple[syntax.Value, ...]] = {}
        reader = ValueReader(self.lets, self.report)
        for statement in syntax.of_type(self.statements, syntax.Sweep):
            name = statement.name.text
            if name in sweeps:
                self._report_duplicate(f"`sweep {name}`", statement.name.span, None)
                continue
            try:
                values = tuple(reader.dereference(v) for v in reader.items(statement.values))
            except InvalidValueError:
                continue
            if not values:
                self.report(Diagnostic("TD105", f"`sweep {name}` has no values", statement.values.span))
                continue
            sweeps[name] = tuple(dict.fromkeys(values))
        return sweeps

    def _report_duplicate(self, what: str, span: syntax.Span, first: syntax.Span | None) -> None:
        secondary = (Label(first, "first given here"),) if first else ()
        self.report(Diagnostic("TD108", f"{what} is given twice", span, secondary=secondary, help="keep one"))

    def _report_unused(self) -> None:
        read = _refs(self.statements)
        for statement in syntax.of_type(self.statements, syntax.Let):
            if statement.name.text not in read:
                self.report(Diagnostic("TD107", f"`let {statement.name.text}` is never read", statement.name.span))
        for statement in syntax.of_type(self.statements, syntax.Sweep):
            if statement.name.text not in read and len(self.sweeps.get(statement.name.text, ())) > 1:
                self.report(
                    Diagnostic(
                        "TD512",
                        f"`sweep {statement.name.text}` is never read: every run would be identical",
                        statement.name.span,
                        help=f"write `${statement.name.text}` where the value belongs, or remove the sweep",
                    )
                )

    # -- the plan

    def plan(self) -> model.Plan | None:
        self._check_version()
        self._check_settings_once(self.statements)
        self._report_unused()
        seeds = self._resolve_seeds()
        declared = self._declared_arms()
        self.names = [arm.name.text for arm in declared]
        arms = tuple(arm for statement in declared for arm in self._expand_arm(statement))
        self._check_circular_arms(arms)
        questions = QuestionResolver(self.statements, self.constants, self.diagnostics)
        compared, rivals, options = questions.resolve_compare([s.name.text for s in declared if s], arms)
        metrics, measuring = questions.metrics()
        stops = questions.stops()
        if not syntax.of_type(self.statements, *syntax.PIPELINE, syntax.Arm, syntax.Compare):
            self._report_empty()
        helpers: tuple[model.Arm, ...] = ()
        if compared is not None:
            helpers = tuple(arm for arm in arms if arm.name in with_dependencies(arms, compared) - compared)
            arms = tuple(arm for arm in arms if arm.name in compared)
        if not arms:
            return None
        path = self.loaded.source.path
        plan = model.Plan(
            name=Path(path).stem or "plan",
            path=path,
            arms=arms,
            seeds=seeds,
            rivals=rivals,
            rival_levels=options.get("levels", "all"),
            rival_budget=options.get("budget", "epochs"),
            within=Fraction(str(options.get("within", 0))),
            metrics=metrics,
            measuring=measuring,
            stops=stops,
            helpers=helpers,
            compare_span=next((s.span for s in syntax.of_type(self.statements, syntax.Compare)), None),
            report_span=next((s.span for s in syntax.of_type(self.statements, syntax.Report)), None),
        )
        assumed = DefaultsReporter(self.report)
        for statement in syntax.of_type(self.statements, syntax.Compare)[:1]:
            assumed.options(statement, comparison_options(plan), vocabulary.COMPARE_OPTIONS)
        for statement in syntax.of_type(self.statements, syntax.Report)[:1]:
            assumed.measuring(statement, plan)
        return plan

    def _report_empty(self) -> None:
        self.report(
            Diagnostic(
                "TD002",
                "this plan has no pipeline statement: nothing is pruned",
                settings.first_word_span(self.loaded.source),
                help="add one, e.g. `prune filters global 20% x 8; rewind lr`",
            )
        )

    def _check_version(self) -> None:
        for statement in syntax.of_type(self.statements, syntax.Version):
            if statement.number != 1:
                self.report(
                    Diagnostic(
                        "TD005",
                        f"`plan {statement.number}` needs another tickdsl; this one reads plan 1",
                        statement.span,
                        help="write `plan 1`, or update tickdsl",
                    )
                )

    def _check_settings_once(self, scope: Sequence[syntax.Statement]) -> None:
        first: dict[str, syntax.Span] = {}
        for statement in syntax.of_type(scope, *syntax.SETTINGS, syntax.Seeds, syntax.Version, syntax.Report):
            word = type(statement).__name__.lower()
            words = (word, "data") if isinstance(statement, syntax.Model) and statement.data else (word,)
            for kind in words:
                if kind in first:
                    self._report_duplicate(f"`{kind}`", statement.span, first[kind])
                    break
                first[kind] = statement.span

    def _resolve_seeds(self) -> tuple[int, ...]:
        for statement in syntax.of_type(self.statements, syntax.Seeds)[:1]:
            try:
                value = self.constants.dereference(statement.value)
                if isinstance(value, syntax.Number):
                    number = self.constants.integer(statement.value, "the number of seeds", 1)
                    if number > MAX_VALUES:
                        raise self.constants.report_bad_value(
                            statement.value, f"{number} seeds are more than {MAX_VALUES}"
                        )
                    return tuple(range(1, 1 + number))
                seeds = [self.constants.integer(v, "a seed", 0) for v in self.constants.items(value)]
            except InvalidValueError:
                return (1,)
            for seed in (seed for seed, times in Counter(seeds).items() if times > 1):
                self.report(Diagnostic("TD504", f"seed {seed} appears twice", statement.value.span, help="keep one"))
            if not seeds:
                self.report(Diagnostic("TD105", "`seeds` names no seed", statement.value.span, help="seeds 3"))
            return tuple(dict.fromkeys(seeds)) or (1,)
        return (1,)

    # -- arms

    def _declared_arms(self) -> list[syntax.Arm]:
        """The arms as written; a plan without any is one arm."""
        named: dict[str, syntax.Arm] = {}
        for arm in syntax.of_type(self.statements, syntax.Arm):
            name = arm.name.text
            if name in vocabulary.RIVALS or name == vocabulary.ALL_ARMS:
                message = f"`{name}` is a builtin of `compare`; pick another arm name"
                self.report(Diagnostic("TD111", message, arm.name.span, help=f"for example `{name}-arm`"))
            elif name in named:
                secondary = (Label(named[name].name.span, "first defined here"),)
                self.report(Diagnostic("TD109", f"arm `{name}` is defined twice", arm.name.span, secondary=secondary))
            else:
                named[name] = arm
                self._check_arm_body(arm)
        if named:
            self._check_after_arms()
            return list(named.values())
        steps = [s for s in self.statements if isinstance(s, syntax.PIPELINE)]
        if not steps:
            return []
        source = self.loaded.source
        span = syntax.Span(steps[0].span.source, steps[0].span.start, steps[0].span.end)
        return [syntax.Arm(syntax.Word(IMPLICIT_ARM_NAME, span=syntax.Span(source, 0, 0)), (), span=span)]

    def _check_arm_body(self, arm: syntax.Arm) -> None:
        self._check_settings_once(arm.body)
        for statement in arm.body:
            if not isinstance(statement, (*syntax.PIPELINE, *syntax.SETTINGS)):
                word = statement.span.text.split()[0]
                self.report(
                    Diagnostic(
                        "TD007",
                        f"`{word}` cannot stand inside an arm",
                        statement.span,
                        help="move it to the top level of the plan",
                    )
                )

    def _check_after_arms(self) -> None:
        last = None
        for statement in self.statements:
            if isinstance(statement, syntax.Arm):
                last = statement
            elif last is not None and isinstance(statement, syntax.PIPELINE):
                self.report(
                    Diagnostic(
                        "TD007",
                        "a pipeline statement after an arm belongs to no arm",
                        statement.span,
                        secondary=(Label(last.name.span, "arms fork what stands before them"),),
                        help="move it before the arms to share it, or into one of them",
                    )
                )

    def _expand_arm(self, arm: syntax.Arm) -> list[model.Arm]:
        """The arm once for every combination of the sweep values that it reads."""
        prefix, shared = self.prefix, self.shared
        own = [s for s in arm.body if isinstance(s, syntax.SETTINGS)]
        kinds = {type(s) for s in own}
        read = _refs((prefix, arm.body, tuple(s for s in shared if type(s) not in kinds)))
        read |= self._refs_of_referenced_arms((*prefix, *arm.body), {arm.name.text})
        if (
            syntax.Model in kinds
            and syntax.Data not in kinds
            and not any(s.data for s in own if isinstance(s, syntax.Model))
        ):
            # The arm's own network stands on the shared `model … on $data`.
            read |= _refs(tuple(s.data for s in shared if isinstance(s, syntax.Model) and s.data))
        read = self._follow_lets(read)
        swept = [name for name in self.sweeps if name in read]
        self.expanded_count += math.prod(len(self.sweeps[name]) for name in swept)
        if self.expanded_count > MAX_ARMS:
            self._report_too_many_arms(arm, swept)
            return []
        diagnostics = SweepDiagnostics({name: [format_value(value) for value in self.sweeps[name]] for name in swept})
        expanded_count = []
        for values in itertools.product(*(self.sweeps[name] for name in swept)):
            binding = dict(zip(swept, values, strict=True))
            spelt = {name: format_value(value) for name, value in binding.items()}
            built = self._resolve_arm(
                arm, prefix, shared, own, ValueReader({**self.lets, **binding}, diagnostics.reporter_for(spelt))
            )
            if built is not None:
                label = ", ".join(f"{name}={value}" for name, value in spelt.items())
                built = attrs.evolve(built, id=f"{arm.name.text}[{label}]" if label else arm.name.text, sweep=spelt)
                expanded_count.append(built)
                if not diagnostics.has_errors_for(spelt):
                    self.valid_arms.add(built.id)
        self.diagnostics += diagnostics.merged()
        return expanded_count

    def _report_too_many_arms(self, arm: syntax.Arm, swept: list[str]) -> None:
        first = next((s for s in syntax.of_type(self.statements, syntax.Sweep) if s.name.text in swept), arm)
        counts = " × ".join(str(len(self.sweeps[name])) for name in swept) or "1"
        self.report(
            Diagnostic(
                "TD518",
                f"sweeps make more than {MAX_ARMS} arms: arm `{arm.name.text}` alone is {counts}",
                first.span,
                help="sweep fewer values, or narrow one with `--set NAME=VALUE`",
            )
        )

    def _refs_of_referenced_arms(self, statements: Sequence[syntax.Statement], seen: set[str]) -> set[str]:
        """What the arms read that these statements learn from or match: they are run under the same sweeps."""
        found: set[str] = set()
        for node in syntax.walk(tuple(statements)):
            if not isinstance(node, syntax.Distill | syntax.Matching):
                continue
            value = node.teacher if isinstance(node, syntax.Distill) else node.arm
            words = (
                self.sweeps.get(value.name, (self.lets.get(value.name),)) if isinstance(value, syntax.Ref) else (value,)
            )
            for other in syntax.of_type(self.statements, syntax.Arm):
                if other.name.text not in seen and other.name in words:
                    own = {type(s) for s in other.body}
                    shared = tuple(s for s in self.statements if isinstance(s, syntax.SETTINGS) and type(s) not in own)
                    found |= _refs((shared, other.body))
                    found |= self._refs_of_referenced_arms(other.body, {*seen, other.name.text})
        return found

    def _check_circular_arms(self, arms: Sequence[model.Arm]) -> None:
        """Arms that learn from each other, or match each other, would wait for ever."""
        for arm in {arm.name: arm for arm in arms}.values():
            others = {name for name in arm.referenced_arms if arm.name in with_dependencies(arms, {name})}
            if others:
                other = sorted(others)[0]
                message = f"arm `{arm.name}` rests on arm `{other}`, and that one on `{arm.name}`"
                self.report(Diagnostic("TD510", message, arm.span, help="let one of them stand alone"))
                return

    def _follow_lets(self, names: set[str]) -> set[str]:
        """The names, and those that the lets among them stand for."""
        found: set[str] = set()
        while names:
            found |= names
            names = set().union(*(_refs(self.lets[name]) for name in names if name in self.lets)) - found
        return found

    def _resolve_arm(
        self,
        arm: syntax.Arm,
        prefix: tuple[syntax.Statement, ...],
        shared: Sequence[syntax.Statement],
        own: Sequence[syntax.Statement],
        reader: ValueReader,
    ) -> model.Arm | None:
        scope = settings.resolve(shared, own, reader, self.loaded.source)
        steps = (*prefix, *(s for s in arm.body if isinstance(s, syntax.PIPELINE)))
        found = pipeline.resolve(steps, ArmContext(scope, arm.name.text, self.names, reader))
        if not steps and (prefix or arm.body or arm.name.span.end):
            self.report(
                Diagnostic(
                    "TD002",
                    f"arm `{arm.name.text}` has no pipeline statement",
                    arm.name.span,
                    help="add a `prune`",
                )
            )
        if scope is None or not found.rounds:
            return None
        return model.Arm(
            id=arm.name.text,
            name=arm.name.text,
            sweep={},
            model=scope.model,
            data=scope.data,
            recipe=scope.recipe,
            rounds=found.rounds,
            split=scope.split,
            transfer=found.transfer,
            span=arm.name.span if arm.body else arm.span,
            recipe_span=scope.recipe_span,
            recipe_places=scope.recipe_places,
        )
