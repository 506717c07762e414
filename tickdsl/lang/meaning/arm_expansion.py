"""Expand the arms of a plan: one arm for every combination of the sweep values that it uses."""

from __future__ import annotations

import functools
import graphlib
import itertools
import math
from collections.abc import Collection, Sequence

import attrs

from tickdsl.lang import syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.findings.internal_errors import attempt
from tickdsl.lang.findings.limit import MAX_PER_LINE
from tickdsl.lang.meaning import pipeline, settings
from tickdsl.lang.meaning.arm_context import ArmContext
from tickdsl.lang.meaning.sweep_diagnostics import SweepDiagnostics
from tickdsl.lang.meaning.unused_settings import unused_settings
from tickdsl.lang.meaning.values import ValueReader
from tickdsl.lang.meaning.variables import Variables, references, report_duplicate
from tickdsl.lang.reading.include import LoadedPlan
from tickdsl.lang.writing.literals import format_value
from tickdsl.plan import model
from tickdsl.training.recipes.recipe import Recipe

#: The name of the arm of a plan without `arm` statements.
IMPLICIT_ARM_NAME = "ticket"
#: The limits on the arms of a plan, and on the prunes of all arms, each round of a `cycle` counted.
MAX_ARMS, MAX_PRUNES = 5_000, 50_000


def check_settings_once(scope: Sequence[syntax.Statement], diagnostics: list[Diagnostic]) -> None:
    """Report every setting that a scope (the plan, or an arm) sets twice."""
    first: dict[str, syntax.Span] = {}
    prune = next((s.span.start for s in syntax.of_type(scope, *syntax.PIPELINE)), None)
    for statement in syntax.of_type(scope, *syntax.SETTINGS, syntax.Seeds, syntax.Version, syntax.Report):
        keyword = type(statement).__name__.lower()
        keywords = (keyword, "data") if isinstance(statement, syntax.Model) and statement.data else (keyword,)
        for kind in keywords:
            if kind in first:
                is_after_prune = kind == "train" and prune is not None and statement.span.start > prune
                help = "to train after a prune, use `retrain fine-tune 5ep` or `rewind lr`" if is_after_prune else None
                report_duplicate(f"`{kind}`", statement.span, first[kind], diagnostics.append, help)
                break
            first[kind] = statement.span


@attrs.define
class ArmExpander:
    """Expands the arms of a plan; findings are added to `diagnostics`."""

    loaded: LoadedPlan
    variables: Variables
    diagnostics: list[Diagnostic]
    #: The ids of the arms without errors.
    valid_arms: set[str] = attrs.field(factory=set)
    _names: list[str] = attrs.field(factory=list)
    _combinations: int = 0
    _prunes: int = 0
    #: Whether it was reported that there are too many arms or prunes.
    _is_full: bool = False

    @property
    def statements(self) -> Sequence[syntax.Statement]:
        return self.loaded.statements

    @functools.cached_property
    def _prefix(self) -> tuple[syntax.Statement, ...]:
        return tuple(s for s in self.statements if isinstance(s, syntax.PIPELINE))

    @functools.cached_property
    def _shared(self) -> list[syntax.Statement]:
        return [s for s in self.statements if isinstance(s, syntax.SETTINGS)]

    @functools.cached_property
    def _arms_by_name(self) -> dict[str, list[syntax.Arm]]:
        """The `arm` statements, those of a name that is used twice too."""
        arms: dict[str, list[syntax.Arm]] = {}
        for arm in syntax.of_type(self.statements, syntax.Arm):
            arms.setdefault(arm.name.text, []).append(arm)
        return arms

    def declared_arms(self) -> list[syntax.Arm]:
        """The `arm` statements of the plan; a plan without any is a single arm."""
        named: dict[str, syntax.Arm] = {}
        for arm in syntax.of_type(self.statements, syntax.Arm):
            name = arm.name.text
            if name in vocabulary.CONTROLS or name == vocabulary.ALL_ARMS:
                message = f"`{name}` has a meaning in `compare` and cannot name an arm"
                help = f"use another name, e.g. `{name}-arm`"
                self.diagnostics.append(Diagnostic("TD111", message, arm.name.span, help=help))
            elif name in named:
                secondary = (Label(named[name].name.span, "first defined here"),)
                message = f"arm `{name}` is defined twice"
                self.diagnostics.append(Diagnostic("TD109", message, arm.name.span, secondary=secondary))
            else:
                named[name] = arm
                self._check_body(arm)
        if named:
            self._check_after_arms()
            arms = list(named.values())
            self.diagnostics += unused_settings(self.statements, arms)
        else:
            arms = self._implicit_arm()
        self._names = [arm.name.text for arm in arms]
        return arms

    def expand(self, arm: syntax.Arm) -> list[model.Arm]:
        """Expand one of the declared arms; combinations with errors are reported and left out."""
        prefix, shared = self._prefix, self._shared
        own = [s for s in arm.body if isinstance(s, syntax.SETTINGS)]
        sweeps = self._used_sweeps(arm, prefix, shared, own)
        self._combinations += math.prod(len(values) for values in sweeps.values())
        if self._combinations > MAX_ARMS:
            counts = " × ".join(str(len(values)) for values in sweeps.values()) or "1"
            message = f"the sweeps expand to more than {MAX_ARMS:,} arms: {counts} for arm `{arm.name.text}` alone"
            self._report_too_many(message, arm, sweeps)
            return []
        diagnostics = SweepDiagnostics(
            {name: [format_value(value) for value in values] for name, values in sweeps.items()}
        )
        arms = []
        for count, values in enumerate(itertools.product(*sweeps.values())):
            if diagnostics.different_errors > 2 * MAX_PER_LINE:
                self._report_not_checked(arm, sweeps, count)
                break
            if self._prunes > MAX_PRUNES:
                message = f"the arms have more than {MAX_PRUNES:,} prunes, counting each round of a `cycle`"
                self._report_too_many(message, arm, sweeps)
                return []
            binding = dict(zip(sweeps, values, strict=True))
            spelled = {name: format_value(value) for name, value in binding.items()}
            report = diagnostics.reporter_for(spelled)
            reader = ValueReader({**self.variables.lets, **binding}, report)
            resolve = functools.partial(self._resolve, arm, prefix, shared, own, reader)
            resolved = attempt(resolve, None, arm.span, report)
            if resolved is not None:
                self._prunes += len(resolved.rounds)
                label = ", ".join(f"{name}={value}" for name, value in spelled.items())
                arm_id = f"{arm.name.text}[{label}]" if label else arm.name.text
                arms.append(attrs.evolve(resolved, id=arm_id, sweep=spelled))
                if not diagnostics.has_errors_for(spelled):
                    self.valid_arms.add(arm_id)
        self.diagnostics += diagnostics.merged()
        return arms

    def check_circular(self, arms: Sequence[model.Arm]) -> None:
        """Report arms that distil from or match each other: neither could run first."""
        references: dict[str, set[str]] = {}
        for arm in arms:
            references.setdefault(arm.name, set()).update(arm.referenced_arms)
        try:
            graphlib.TopologicalSorter(references).prepare()
        except graphlib.CycleError as error:
            circle = set(error.args[1])
            arm = next(arm for arm in arms if arm.name in circle)
            other = min(references[arm.name] & circle)
            message = f"arms `{arm.name}` and `{other}` depend on each other"
            help = "remove one of the references"
            self.diagnostics.append(Diagnostic("TD510", message, arm.span, help=help))

    def _implicit_arm(self) -> list[syntax.Arm]:
        steps = [s for s in self.statements if isinstance(s, syntax.PIPELINE)]
        if not steps:
            return []
        span = syntax.Span(steps[0].span.source, steps[0].span.start, steps[0].span.end)
        name = syntax.Word(IMPLICIT_ARM_NAME, span=syntax.Span(self.loaded.source, 0, 0))
        return [syntax.Arm(name, (), span=span)]

    def _check_body(self, arm: syntax.Arm) -> None:
        check_settings_once(arm.body, self.diagnostics)
        for statement in arm.body:
            if not isinstance(statement, (*syntax.PIPELINE, *syntax.SETTINGS)):
                keyword = statement.span.text.split()[0]
                message = f"`{keyword}` cannot be used inside an arm"
                help = "move it to the top level of the plan"
                self.diagnostics.append(Diagnostic("TD007", message, statement.span, help=help))

    def _check_after_arms(self) -> None:
        last = None
        for statement in self.statements:
            if isinstance(statement, syntax.Arm):
                last = statement
            elif last is not None and isinstance(statement, syntax.PIPELINE):
                self.diagnostics.append(
                    Diagnostic(
                        "TD007",
                        f"`{statement.span.text.split()[0]}` after an arm belongs to no arm",
                        statement.span,
                        secondary=(Label(last.name.span, "arms share only the statements before them"),),
                        help="move it before the arms to share it, or into one of them",
                    )
                )

    def _used_sweeps(
        self,
        arm: syntax.Arm,
        prefix: Sequence[syntax.Statement],
        shared: Sequence[syntax.Statement],
        own: Sequence[syntax.Statement],
    ) -> dict[str, tuple[syntax.Value, ...]]:
        """The sweeps that an arm uses: in its pipeline, its settings, its lets, and the arms that it refers to."""
        if not self.variables.sweeps:
            return {}
        own_kinds = self._overridden(own)
        names = references((prefix, arm.body, tuple(s for s in shared if type(s) not in own_kinds)))
        names |= self._references_of_referenced_arms((*prefix, *arm.body), {arm.name.text})
        if (
            syntax.Model in own_kinds
            and syntax.Data not in own_kinds
            and not any(s.data for s in own if isinstance(s, syntax.Model))
        ):
            # The arm's own network uses the data of the shared `model … on $data`.
            names |= references(tuple(s.data for s in shared if isinstance(s, syntax.Model) and s.data))
        names = self.variables.follow_lets(names)
        return {name: values for name, values in self.variables.sweeps.items() if name in names}

    def _overridden(self, own: Sequence[syntax.Statement]) -> set[type[syntax.Statement]]:
        """The kinds of settings of the plan that an arm replaces: not the recipe of prunes before the arms."""
        return {type(s) for s in own if not (self._prefix and isinstance(s, syntax.Train))}

    def _references_of_referenced_arms(self, statements: Sequence[syntax.Statement], seen: set[str]) -> set[str]:
        """The references of the arms that these statements refer to, which run under the same sweeps."""
        names: set[str] = set()
        statements = tuple(statements)
        while statements:
            found = [other for other in self._arms_referred_to(statements) if other.name.text not in seen]
            for other in found:
                overridden = self._overridden(other.body)
                shared = tuple(s for s in self._shared if type(s) not in overridden)
                names |= references((shared, other.body))
            seen = seen | {other.name.text for other in found}
            statements = tuple(statement for other in found for statement in other.body)
        return names

    def _arms_referred_to(self, statements: Sequence[syntax.Statement]) -> list[syntax.Arm]:
        """The arms that these statements distil from, match or unite, under any values of the sweeps."""
        candidates: set[str] = set()
        for node in syntax.walk(tuple(statements)):
            for value in syntax.named_arms(node):
                values = (
                    self.variables.sweeps.get(value.name, (self.variables.lets.get(value.name),))
                    if isinstance(value, syntax.Ref)
                    else (value,)
                )
                candidates |= {value.text for value in values if isinstance(value, syntax.Word)}
        return [arm for name in candidates for arm in self._arms_by_name.get(name, ())]

    def _report_split(self, own: Sequence[syntax.Statement]) -> None:
        """Report TD440: a split in an arm without a prune, whose network is trained on all data."""
        for split in syntax.of_type(own, syntax.Split):
            message = "`split` has no effect in an arm without a `prune`: its network is trained on all data"
            self.diagnostics.append(
                Diagnostic("TD440", message, split.span, help="remove it, or add a `prune` and an `overlap`")
            )

    def _report_too_many(self, message: str, arm: syntax.Arm, sweeps: Collection[str]) -> None:
        if self._is_full:
            return
        self._is_full = True
        help = "sweep fewer values, or fix one with `--set NAME=VALUE`" if sweeps else "use fewer rounds"
        self.diagnostics.append(Diagnostic("TD518", message, self._sweep_or_arm(arm, sweeps).span, help=help))

    def _report_not_checked(self, arm: syntax.Arm, sweeps: Collection[str], checked: int) -> None:
        message = f"the sweep values after the first {checked} are not checked in `{arm.name.text}`: too many are wrong"
        place = self._sweep_or_arm(arm, sweeps).span
        self.diagnostics.append(Diagnostic("TD018", message, place, help="fix the ones shown first"))

    def _sweep_or_arm(self, arm: syntax.Arm, sweeps: Collection[str]) -> syntax.Sweep | syntax.Arm:
        """The first of the sweeps; without any, the arm."""
        return next((s for s in syntax.of_type(self.statements, syntax.Sweep) if s.name.text in sweeps), arm)

    def _resolve(
        self,
        arm: syntax.Arm,
        prefix: tuple[syntax.Statement, ...],
        shared: Sequence[syntax.Statement],
        own: Sequence[syntax.Statement],
        reader: ValueReader,
    ) -> model.Arm | None:
        """Resolve an arm under one combination of sweep values. None, after reporting the errors, if it is wrong."""
        arm_settings = settings.resolve(shared, own, reader, self.loaded.source)
        own_steps = [s for s in arm.body if isinstance(s, syntax.PIPELINE)]
        steps = (*prefix, *own_steps)
        context = ArmContext(arm_settings, arm.name.text, self._names, reader)
        plan_settings = arm_settings
        if prefix and any(isinstance(statement, syntax.Train) for statement in own):
            plan_settings = settings.resolve(shared, (), reader, self.loaded.source)
        resolved = pipeline.resolve(steps, context, prefix, attrs.evolve(context, settings=plan_settings))
        _report_late_settings(own, prefix, reader)
        if not steps and not own:
            message = f"arm `{arm.name.text}` has neither a `prune` nor settings of its own"
            help = "add a `prune`; for a network that is not pruned, add `model …`, `data …` or `train …`"
            self.diagnostics.append(Diagnostic("TD002", message, arm.name.span, help=help))
        if not steps:
            self._report_split(own)
        has_levels = resolved.rounds or resolved.cycles
        if arm_settings is None or plan_settings is None:
            return None
        if not (has_levels or (own and not steps)):
            _report_wrong_recipe(arm_settings, reader)
            return None
        fork = None
        if arm_settings.recipe != plan_settings.recipe:
            rounds, tail, cycles = resolved.shared
            places = (plan_settings.recipe_span, plan_settings.recipe_places)
            fork = model.Fork(
                plan_settings.recipe, rounds, tail, cycles, recipe_span=places[0], recipe_places=places[1]
            )
            if not own_steps:
                last = resolved.rounds[-1].last_tail if resolved.rounds else resolved.cycles[-1].tail
                _report_unused_recipe(own, last, reader)
        return model.Arm(
            id=arm.name.text,
            name=arm.name.text,
            sweep={},
            model=arm_settings.model,
            data=arm_settings.data,
            recipe=arm_settings.recipe,
            rounds=resolved.rounds,
            split=arm_settings.split,
            transfer=resolved.transfer,
            elastic=resolved.elastic,
            fork=fork,
            cycles=resolved.cycles,
            span=arm.name.span if arm.body else arm.span,
            recipe_span=arm_settings.recipe_span,
            recipe_places=arm_settings.recipe_places,
        )


def _report_wrong_recipe(found: settings.ArmSettings, reader: ValueReader) -> None:
    """Report TD305 for an arm that has no rounds because they need its recipe, and something is wrong with that.

    With rounds, `tickdsl.checks` reports it.
    """
    try:
        Recipe.from_dict(found.recipe)
    except ValueError as error:
        place = settings.location_at_fault(error, found.recipe_places or {})
        message = f"invalid recipe: {settings.in_plan_words(error)}"
        span, labels = (found.recipe_span, ()) if place is None else (place.span, place.references)
        reader.report(Diagnostic("TD305", message, span, secondary=labels))


def _report_late_settings(
    own: Sequence[syntax.Statement], prefix: Sequence[syntax.Statement], reader: ValueReader
) -> None:
    """Report TD120: settings of an arm that cannot change after a prune before the arms. Its recipe can."""
    for statement in own:
        if prefix and not isinstance(statement, syntax.Train):
            keyword = statement.span.text.split()[0]
            reader.report(
                Diagnostic(
                    "TD120",
                    f"`{keyword}` inside an arm comes too late: the statements before the arms prune already",
                    statement.span,
                    secondary=(Label(prefix[0].span, "made once, for all arms"),),
                    help=f"move `{keyword}` before the arms, or the prune into each arm",
                )
            )


def _report_unused_recipe(own: Sequence[syntax.Statement], last: Sequence[model.Tail], reader: ValueReader) -> None:
    """Report TD315: a recipe of an arm that trains none of its tickets, as the last training is set before the arms."""
    trains = [tail for tail in last if isinstance(tail, model.Rewind | model.Retrain)]
    for statement in syntax.of_type(own, syntax.Train):
        if trains:
            reader.report(
                Diagnostic(
                    "TD315",
                    "this recipe trains only the dense network and the controls: the training after the prune is set "
                    "before the arms",
                    statement.span,
                    secondary=(Label(trains[-1].span, "set here, by the plan's recipe"),),
                    help=f"move `{type(trains[-1]).__name__.lower()}` into the arms",
                )
            )
