"""Resolve `compare`, `report` and `stop when`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from tickdsl.lang import option_schemas, registries, syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.meaning import after_prune, option_effects
from tickdsl.lang.meaning.values import InvalidValueError, ValueReader, report_unsupported
from tickdsl.moments import Moment
from tickdsl.plan import model
from tickdsl.plugins import Registry
from tickdsl.training.catalogue.tasks import TASK_METRICS


def with_dependencies(arms: Iterable[model.Arm], names: set[str]) -> set[str]:
    """The names, with those of all arms that these arms distil from or match, directly or not."""
    references: dict[str, set[str]] = {}
    for arm in arms:
        references.setdefault(arm.name, set()).update(arm.referenced_arms)
    reached, added = set(names), set(names)
    while added:
        added = set().union(*(references.get(name, set()) for name in added)) - reached
        reached |= added
    return reached


@attrs.frozen
class QuestionResolver:
    """Resolves `compare`, `report` and `stop when`; findings are added to `diagnostics`, as are those of `reader`."""

    statements: Sequence[syntax.Statement]
    reader: ValueReader
    diagnostics: list[Diagnostic]

    def resolve_compare(
        self, declared: list[str], arms: Sequence[model.Arm]
    ) -> tuple[set[str] | None, tuple[str, ...], dict[str, Any]]:
        """Resolve `compare` to the names of its arms (None for all), its controls and its options."""
        statements = syntax.of_type(self.statements, syntax.Compare)
        named: set[str] = set()
        all_arms = not statements
        controls: dict[str, None] = {}
        options: dict[str, Any] = {}
        readable = True
        known = [*declared, *vocabulary.CONTROLS, vocabulary.ALL_ARMS]
        for statement in statements:
            before = len(self.diagnostics)
            for word, name in self._once(statement.names, known, "arm or control", "TD110", "TD524"):
                if name == vocabulary.ALL_ARMS:
                    all_arms = True
                elif name in vocabulary.CONTROLS:
                    self._add_control(word, name, controls)
                else:
                    named.add(name)
            # An unreadable name could be any arm or control.
            readable = readable and len(self.diagnostics) == before
            read = self.reader.options(statement.options, option_schemas.COMPARE_OPTIONS, "compare")
            for option in statement.options:
                if options.get(option.key.text, read.get(option.key.text)) != read.get(option.key.text):
                    message, help = (
                        f"`{option.key.text}=` differs between two `compare` statements",
                        "remove one of them",
                    )
                    self.diagnostics.append(Diagnostic("TD108", message, option.span, help=help))
            options.update(read)
        pruned = {"random-init", "random-structure"} & set(controls)
        compared_names = set(declared) if all_arms or not named else named
        count = sum(arm.name in compared_names or not declared for arm in arms)
        count = max(count, len(compared_names)) if arms else 2  # arms with errors may be more
        in_effect = {"controls": len(set(controls) - {"dense"}), "pruned-controls": len(pruned), "arms": count}
        in_effect["random-structures"] = int("random-structure" in controls)
        if readable:
            for statement in statements:
                option_effects.report(statement.options, option_schemas.COMPARE_OPTIONS, in_effect, self.reader)
        if statements and not declared:
            self.diagnostics.append(
                Diagnostic(
                    "TD506", "`compare` needs at least one `prune` or `arm`", statements[0].span, help="add a `prune`"
                )
            )
        compared = None if all_arms or not named or not readable else named
        if compared is not None:
            needed = with_dependencies(arms, compared)
            for arm in syntax.of_type(self.statements, syntax.Arm):
                if arm.name.text not in needed:
                    names = ", ".join(n for n in declared if n in compared or n == arm.name.text)
                    self.diagnostics.append(
                        Diagnostic(
                            "TD507",
                            f"arm `{arm.name.text}` is never compared, so it does not run",
                            arm.name.span,
                            help=f"add it: `compare {names}`",
                        )
                    )
        return compared, tuple(controls), options

    def _once(
        self, written: Iterable[syntax.Value], known: Iterable[str] | Registry[Any], kind: str, code: str, repeated: str
    ) -> Iterator[tuple[syntax.Value, str]]:
        """Yield the known names as `_resolve_names` does, each once; `repeated` is the code for those listed again."""
        listed: dict[str, list[syntax.Span]] = {}
        for value, name in self._resolve_names(written, known, kind, code):
            spans = listed.setdefault(name, [])
            spans.append(value.span)
            if len(spans) == 1:
                yield value, name
            if len(spans) == 2:  # one finding per name, however often it is repeated
                message = f"`{name}` is listed more than once, which has no effect"
                first = (Label(spans[0], "the first one"),) if spans[0] != value.span else ()
                help = f"remove one of them, or name another {kind}"
                self.diagnostics.append(Diagnostic(repeated, message, value.span, secondary=first, help=help))

    def _resolve_names(
        self, written: Iterable[syntax.Value], known: Iterable[str] | Registry[Any], kind: str, code: str
    ) -> Iterator[tuple[syntax.Value, str]]:
        """Yield the known names, each with the value it was read from; a `$name` may refer to a list of names."""
        known = known if isinstance(known, Registry) else list(known)
        for value in written:
            with contextlib.suppress(InvalidValueError):
                for item in self.reader.items(value):
                    with contextlib.suppress(InvalidValueError):
                        is_single = isinstance(value, syntax.Ref) and item == self.reader.dereference(value)
                        origin = value if is_single else item
                        if code == "TD114" and (metric := self._task_metric(origin)):
                            yield origin, metric
                        elif isinstance(known, Registry):
                            yield origin, self.reader.table_name(origin, known, code)
                        else:
                            yield origin, self.reader.word(origin, known, kind, code)

    def _task_metric(self, value: syntax.Value) -> str:
        """The name of a metric that only some tasks have; empty for all others."""
        resolved = self.reader.dereference(value)
        name = resolved.text if isinstance(resolved, syntax.Word | syntax.String) else ""
        return name if name in TASK_METRICS and name not in vocabulary.METRICS else ""

    def _add_control(self, word: syntax.Value, name: str, controls: dict[str, None]) -> None:
        if vocabulary.CONTROLS[name]:
            controls[name] = None
        else:
            report_unsupported(self.reader, word, f"the control `{name}`")

    def metrics(self) -> tuple[tuple[str, ...], model.MeasurementOptions]:
        """Resolve `report` to its metrics and how they are measured."""
        statement = next(iter(syntax.of_type(self.statements, syntax.Report)), None)
        if statement is None:
            return (), model.MeasurementOptions()
        before = len(self.diagnostics)
        written = [metric for metric in statement.metrics if not isinstance(metric, syntax.Line)]
        names = self._once(written, registries.REPORT_METRICS, "metric", "TD114", "TD525")
        metrics = tuple(name for _, name in names)
        # An unreadable name could be any metric.
        possible = metrics if len(self.diagnostics) == before else vocabulary.METRICS
        readers = option_schemas.REPORT_OPTION_METRICS
        allowed = {
            n: kind for n, kind in option_schemas.REPORT_OPTIONS.items() if set(readers[n]).intersection(possible)
        }
        options = self.reader.options(statement.options, allowed, f"report {', '.join(metrics)}")
        if "every" in options:
            options["every"] = self._measured_every(statement, Moment.parse(options["every"]))
        return metrics, model.MeasurementOptions(**options)

    def lines(self, declared: Sequence[str]) -> tuple[model.Line, ...]:
        """Resolve the metrics of `report` on lines between networks, each once."""
        found: dict[model.Line, model.Line] = {}
        for statement in syntax.of_type(self.statements, syntax.Report)[:1]:
            for written in statement.metrics:
                if isinstance(written, syntax.Line):
                    with contextlib.suppress(InvalidValueError):
                        line = self._line(written, declared)
                        if line in found:
                            message, first = f"`{line}` is listed more than once, which has no effect", found[line].span
                            secondary = (Label(first, "the first one"),)
                            self.diagnostics.append(
                                Diagnostic("TD525", message, line.span, secondary=secondary, help="remove one of them")
                            )
                        found.setdefault(line, line)
        return tuple(found)

    def _line(self, written: syntax.Line, declared: Sequence[str]) -> model.Line:
        """Read a metric between two networks. Raises InvalidValueError, after reporting it, if it is wrong."""
        metric = self.reader.word(written.metric, vocabulary.LINE_METRICS, "metric between networks", "TD548")
        known = [*declared, "dense"]
        start = self.reader.word(written.start, known, "arm", "TD110")
        end = "" if written.end is None else self.reader.word(written.end, known, "arm", "TD110")
        if start == end:
            message = f"`{metric} of {start} to {end}` is a line from a network to itself"
            help = f"name another arm, or another seed: `{metric} of {start} to next seed`"
            raise self.reader.report_error("TD548", message, written.start, help=help)
        return model.Line(metric, start, end, span=written.span)

    def _measured_every(self, statement: syntax.Report, every: Moment) -> Moment | None:
        """How often `early-stop` measures; None, after reporting it, for what is no length."""
        if every.unit != "%" and every.amount:
            return every
        value = next(option.value for option in statement.options if option.key.text == "every")
        message = f"`every=` must be a number of steps or epochs above 0; found `{every}`"
        with contextlib.suppress(InvalidValueError):
            raise self.reader.report_bad_value(value, message, help="use e.g. `every=100it`")
        return None

    def stops(self) -> tuple[model.Condition, ...]:
        """Resolve the conditions of `stop when`, which end an arm before its last round."""
        stops = []
        for statement in syntax.of_type(self.statements, syntax.Stop):
            with contextlib.suppress(InvalidValueError):
                stops.append(after_prune.condition(statement.condition, self.reader))
        return tuple(stops)
