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
from tickdsl.lang.findings.render import ordered
from tickdsl.lang.meaning import pipeline, settings
from tickdsl.lang.meaning.cascades import Lost
from tickdsl.lang.meaning.defaults import Assumed, comparison
from tickdsl.lang.meaning.questions import Questions, needed
from tickdsl.lang.meaning.sweeps import SweptFindings
from tickdsl.lang.meaning.tails import Around
from tickdsl.lang.meaning.values import MOST_VALUES, Reader, Unreadable
from tickdsl.lang.reading.include import Loaded
from tickdsl.lang.writing.literals import spell
from tickdsl.plan import model

#: The name of the arm of a plan that names none.
IMPLICIT_ARM = "ticket"
#: More arms than this are not expanded.
MOST_ARMS = 10_000


@attrs.frozen
class Resolved:
    """A plan, where its text allows one, and all findings.

    `readable` holds the arms without mistakes, also where there are errors elsewhere: what is checked further.
    """

    plan: model.Plan | None
    findings: tuple[Diagnostic, ...]
    readable: model.Plan | None = None

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        return tuple(d for d in self.findings if d.severity == "error")


def resolve(loaded: Loaded) -> Resolved:
    """The plan that the statements mean."""
    resolver = _Resolver(loaded)
    plan = resolver.plan()
    lost = Lost(loaded)
    found = [*loaded.findings, *(d for d in resolver.findings if not lost.explains(d))]
    findings = ordered(loaded.led_to(d) for d in found)
    if not any(d.severity == "error" for d in findings):
        return Resolved(plan, findings, plan)
    # Which of two settings holds nobody knows.
    unclear = [d.span for d in resolver.findings if d.code == "TD108"]
    arms = tuple(
        arm
        for arm in (plan.arms if plan else ())
        if arm.id in resolver.sound and not lost.touches(arm.span) and not lost.touched_by(unclear, arm.span)
    )
    return Resolved(None, findings, attrs.evolve(plan, arms=arms) if plan and arms else None)


def _refs(node: object) -> set[str]:
    return {n.name for n in syntax.walk(node) if isinstance(n, syntax.Ref)}


class _Resolver:
    """One pass over the statements; the findings gather beside it."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.top = loaded.statements
        self.findings: list[Diagnostic] = []
        #: The arms that were built without an error.
        self.sound: set[str] = set()
        self.names: list[str] = []
        self.expanded = 0
        self.prefix = tuple(s for s in self.top if isinstance(s, syntax.PIPELINE))
        self.shared = [s for s in self.top if isinstance(s, syntax.SETTINGS)]
        self.lets = self._lets()
        self.sweeps = self._sweeps()
        self.constant = Reader(self.lets, self.report, frozenset(self.sweeps))
        self._lets_defined()

    def report(self, finding: Diagnostic) -> None:
        self.findings.append(finding)

    # -- variables

    def _lets(self) -> dict[str, syntax.Value]:
        lets: dict[str, syntax.Value] = {}
        places: dict[str, syntax.Span] = {}
        sweeps = {s.name.text for s in syntax.of(self.top, syntax.Sweep)}
        for statement in syntax.of(self.top, syntax.Let):
            name = statement.name.text
            if name in places or name in sweeps:
                self._twice(f"`{name}`", statement.name.span, places.get(name))
                continue
            places[name] = statement.name.span
            lets[name] = statement.value
        return lets

    def _lets_defined(self) -> None:
        """Lets may name each other and sweeps in any order; what they name has to be there."""
        first = {name: values[0] for name, values in self.sweeps.items()}
        for statement in syntax.of(self.top, syntax.Let):
            with contextlib.suppress(Unreadable):
                Reader({**self.lets, **first}, self.report).follow(statement.value)

    def _sweeps(self) -> dict[str, tuple[syntax.Value, ...]]:
        sweeps: dict[str, tuple[syntax.Value, ...]] = {}
        reader = Reader(self.lets, self.report)
        for statement in syntax.of(self.top, syntax.Sweep):
            name = statement.name.text
            if name in sweeps:
                self._twice(f"`sweep {name}`", statement.name.span, None)
                continue
            try:
                values = tuple(reader.follow(v) for v in reader.items(statement.values))
            except Unreadable:
                continue
            if not values:
                self.report(Diagnostic("TD105", f"`sweep {name}` has no values", statement.values.span))
                continue
            sweeps[name] = tuple(dict.fromkeys(values))
        return sweeps

    def _twice(self, what: str, span: syntax.Span, first: syntax.Span | None) -> None:
        secondary = (Label(first, "first given here"),) if first else ()
        self.report(Diagnostic("TD108", f"{what} is given twice", span, secondary=secondary, help="keep one"))

    def _unused(self) -> None:
        read = _refs(self.top)
        for statement in syntax.of(self.top, syntax.Let):
            if statement.name.text not in read:
                self.report(Diagnostic("TD107", f"`let {statement.name.text}` is never read", statement.name.span))
        for statement in syntax.of(self.top, syntax.Sweep):
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
        self._version()
        self._settings_once(self.top)
        self._unused()
        seeds = self._seeds()
        declared = self._declared_arms()
        self.names = [arm.name.text for arm in declared]
        arms = tuple(arm for statement in declared for arm in self._expand(statement))
        self._circles(arms)
        questions = Questions(self.top, self.constant, self.findings)
        compared, rivals, options = questions.compared([s.name.text for s in declared if s], arms)
        metrics, measuring = questions.metrics()
        stops = questions.stops()
        if not syntax.of(self.top, *syntax.PIPELINE, syntax.Arm, syntax.Compare):
            self._empty()
        helpers: tuple[model.Arm, ...] = ()
        if compared is not None:
            helpers = tuple(arm for arm in arms if arm.name in needed(arms, compared) - compared)
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
            compare_span=next((s.span for s in syntax.of(self.top, syntax.Compare)), None),
            report_span=next((s.span for s in syntax.of(self.top, syntax.Report)), None),
        )
        assumed = Assumed(self.report)
        for statement in syntax.of(self.top, syntax.Compare)[:1]:
            assumed.options(statement, comparison(plan), vocabulary.COMPARE_OPTIONS)
        for statement in syntax.of(self.top, syntax.Report)[:1]:
            assumed.measuring(statement, plan)
        return plan

    def _empty(self) -> None:
        self.report(
            Diagnostic(
                "TD002",
                "this plan has no pipeline statement: nothing is pruned",
                settings.beginning(self.loaded.source),
                help="add one, e.g. `prune filters global 20% x 8; rewind lr`",
            )
        )

    def _version(self) -> None:
        for statement in syntax.of(self.top, syntax.Version):
            if statement.number != 1:
                self.report(
                    Diagnostic(
                        "TD005",
                        f"`plan {statement.number}` needs another tickdsl; this one reads plan 1",
                        statement.span,
                        help="write `plan 1`, or update tickdsl",
                    )
                )

    def _settings_once(self, scope: Sequence[syntax.Statement]) -> None:
        first: dict[str, syntax.Span] = {}
        for statement in syntax.of(scope, *syntax.SETTINGS, syntax.Seeds, syntax.Version, syntax.Report):
            word = type(statement).__name__.lower()
            words = (word, "data") if isinstance(statement, syntax.Model) and statement.data else (word,)
            for kind in words:
                if kind in first:
                    self._twice(f"`{kind}`", statement.span, first[kind])
                    break
                first[kind] = statement.span

    def _seeds(self) -> tuple[int, ...]:
        for statement in syntax.of(self.top, syntax.Seeds)[:1]:
            try:
                value = self.constant.follow(statement.value)
                if isinstance(value, syntax.Number):
                    number = self.constant.integer(statement.value, "the number of seeds", 1)
                    if number > MOST_VALUES:
                        raise self.constant.bad(statement.value, f"{number} seeds are more than {MOST_VALUES}")
                    return tuple(range(1, 1 + number))
                seeds = [self.constant.integer(v, "a seed", 0) for v in self.constant.items(value)]
            except Unreadable:
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
        for arm in syntax.of(self.top, syntax.Arm):
            name = arm.name.text
            if name in vocabulary.RIVALS or name == vocabulary.ALL_ARMS:
                message = f"`{name}` is a builtin of `compare`; pick another arm name"
                self.report(Diagnostic("TD111", message, arm.name.span, help=f"for example `{name}-arm`"))
            elif name in named:
                secondary = (Label(named[name].name.span, "first defined here"),)
                self.report(Diagnostic("TD109", f"arm `{name}` is defined twice", arm.name.span, secondary=secondary))
            else:
                named[name] = arm
                self._arm_body(arm)
        if named:
            self._after_arms()
            return list(named.values())
        steps = [s for s in self.top if isinstance(s, syntax.PIPELINE)]
        if not steps:
            return []
        source = self.loaded.source
        span = syntax.Span(steps[0].span.source, steps[0].span.start, steps[0].span.end)
        return [syntax.Arm(syntax.Word(IMPLICIT_ARM, span=syntax.Span(source, 0, 0)), (), span=span)]

    def _arm_body(self, arm: syntax.Arm) -> None:
        self._settings_once(arm.body)
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

    def _after_arms(self) -> None:
        last = None
        for statement in self.top:
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

    def _expand(self, arm: syntax.Arm) -> list[model.Arm]:
        """The arm once for every combination of the sweep values that it reads."""
        prefix, shared = self.prefix, self.shared
        own = [s for s in arm.body if isinstance(s, syntax.SETTINGS)]
        kinds = {type(s) for s in own}
        read = _refs((prefix, arm.body, tuple(s for s in shared if type(s) not in kinds)))
        read |= self._refs_of_named((*prefix, *arm.body), {arm.name.text})
        if (
            syntax.Model in kinds
            and syntax.Data not in kinds
            and not any(s.data for s in own if isinstance(s, syntax.Model))
        ):
            # The arm's own network stands on the shared `model … on $data`.
            read |= _refs(tuple(s.data for s in shared if isinstance(s, syntax.Model) and s.data))
        read = self._through_lets(read)
        swept = [name for name in self.sweeps if name in read]
        self.expanded += math.prod(len(self.sweeps[name]) for name in swept)
        if self.expanded > MOST_ARMS:
            self._too_many(arm, swept)
            return []
        findings = SweptFindings({name: [spell(value) for value in self.sweeps[name]] for name in swept})
        expanded = []
        for values in itertools.product(*(self.sweeps[name] for name in swept)):
            binding = dict(zip(swept, values, strict=True))
            spelt = {name: spell(value) for name, value in binding.items()}
            built = self._arm(arm, prefix, shared, own, Reader({**self.lets, **binding}, findings.under(spelt)))
            if built is not None:
                label = ", ".join(f"{name}={value}" for name, value in spelt.items())
                built = attrs.evolve(built, id=f"{arm.name.text}[{label}]" if label else arm.name.text, sweep=spelt)
                expanded.append(built)
                if not findings.errors_under(spelt):
                    self.sound.add(built.id)
        self.findings += findings.told()
        return expanded

    def _too_many(self, arm: syntax.Arm, swept: list[str]) -> None:
        first = next((s for s in syntax.of(self.top, syntax.Sweep) if s.name.text in swept), arm)
        counts = " × ".join(str(len(self.sweeps[name])) for name in swept) or "1"
        self.report(
            Diagnostic(
                "TD518",
                f"sweeps make more than {MOST_ARMS} arms: arm `{arm.name.text}` alone is {counts}",
                first.span,
                help="sweep fewer values, or narrow one with `--set NAME=VALUE`",
            )
        )

    def _refs_of_named(self, statements: Sequence[syntax.Statement], seen: set[str]) -> set[str]:
        """What the arms read that these statements learn from or match: they are run under the same sweeps."""
        found: set[str] = set()
        for node in syntax.walk(tuple(statements)):
            if not isinstance(node, syntax.Distill | syntax.Matching):
                continue
            value = node.teacher if isinstance(node, syntax.Distill) else node.arm
            words = (
                self.sweeps.get(value.name, (self.lets.get(value.name),)) if isinstance(value, syntax.Ref) else (value,)
            )
            for other in syntax.of(self.top, syntax.Arm):
                if other.name.text not in seen and other.name in words:
                    own = {type(s) for s in other.body}
                    shared = tuple(s for s in self.top if isinstance(s, syntax.SETTINGS) and type(s) not in own)
                    found |= _refs((shared, other.body))
                    found |= self._refs_of_named(other.body, {*seen, other.name.text})
        return found

    def _circles(self, arms: Sequence[model.Arm]) -> None:
        """Arms that learn from each other, or match each other, would wait for ever."""
        for arm in {arm.name: arm for arm in arms}.values():
            others = {name for name in arm.named if arm.name in needed(arms, {name})}
            if others:
                other = sorted(others)[0]
                message = f"arm `{arm.name}` rests on arm `{other}`, and that one on `{arm.name}`"
                self.report(Diagnostic("TD510", message, arm.span, help="let one of them stand alone"))
                return

    def _through_lets(self, names: set[str]) -> set[str]:
        """The names, and those that the lets among them stand for."""
        found: set[str] = set()
        while names:
            found |= names
            names = set().union(*(_refs(self.lets[name]) for name in names if name in self.lets)) - found
        return found

    def _arm(
        self,
        arm: syntax.Arm,
        prefix: tuple[syntax.Statement, ...],
        shared: Sequence[syntax.Statement],
        own: Sequence[syntax.Statement],
        reader: Reader,
    ) -> model.Arm | None:
        scope = settings.read(shared, own, reader, self.loaded.source)
        steps = (*prefix, *(s for s in arm.body if isinstance(s, syntax.PIPELINE)))
        found = pipeline.read(steps, Around(scope, arm.name.text, self.names, reader))
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
