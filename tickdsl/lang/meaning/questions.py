"""What a plan asks of its arms: `compare`, `report` and `stop when`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from tickdsl.lang import syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.meaning import after_prune
from tickdsl.lang.meaning.values import InvalidValueError, ValueReader, report_unsupported
from tickdsl.plan import model
from tickdsl.plugins import Registry


def with_dependencies(arms: Iterable[model.Arm], names: set[str]) -> set[str]:
    """The arms of these names, and those that they learn from or match, and so on."""
    arms = list(arms)
    found, fresh = set(names), set(names)
    while fresh:
        fresh = {name for arm in arms if arm.name in fresh for name in arm.referenced_arms} - found
        found |= fresh
    return found


@attrs.frozen
class QuestionResolver:
    """The statements of a plan that ask; what is wrong with them joins the `findings`, where `constant` reports."""

    statements: Sequence[syntax.Statement]
    reader: ValueReader
    diagnostics: list[Diagnostic]

    def resolve_compare(
        self, declared: list[str], arms: Sequence[model.Arm]
    ) -> tuple[set[str] | None, tuple[str, ...], dict[str, Any]]:
        """(the arms compared, None for all; the rivals; the options)."""
        statements = syntax.of_type(self.statements, syntax.Compare)
        named: set[str] = set()
        everything = not statements
        rivals: dict[str, None] = {}
        options: dict[str, Any] = {}
        known = [*declared, *vocabulary.RIVALS, vocabulary.ALL_ARMS]
        for statement in statements:
            before = len(self.diagnostics)
            for word, name in self._resolve_names(statement.names, known, "arm or builtin", "TD110"):
                if name == vocabulary.ALL_ARMS:
                    everything = True
                elif name in vocabulary.RIVALS:
                    self._add_rival(word, name, rivals)
                else:
                    named.add(name)
            # A name that could not be read may have meant any arm.
            everything = everything or len(self.diagnostics) > before
            given = self.reader.options(statement.options, vocabulary.COMPARE_OPTIONS, "compare")
            options.update(given)
        if statements and not declared:
            self.diagnostics.append(
                Diagnostic("TD506", "`compare` needs a pipeline or an arm", statements[0].span, help="add a `prune`")
            )
        resolve_compare = None if everything or not named else named
        if resolve_compare is not None:
            run = with_dependencies(arms, resolve_compare)
            for arm in syntax.of_type(self.statements, syntax.Arm):
                if arm.name.text not in run:
                    all_of_them = ", ".join(n for n in declared if n in resolve_compare or n == arm.name.text)
                    self.diagnostics.append(
                        Diagnostic(
                            "TD507",
                            f"arm `{arm.name.text}` is never compared, so it does not run",
                            arm.name.span,
                            help=f"add it: `compare {all_of_them}`",
                        )
                    )
        return resolve_compare, tuple(rivals), options

    def _resolve_names(
        self, written: Iterable[syntax.Value], known: Iterable[str] | Registry[Any], what: str, code: str
    ) -> Iterator[tuple[syntax.Value, str]]:
        """The known ones among names, each with its place; a `$name` may stand for a list of them."""
        known = known if isinstance(known, Registry) else list(known)
        for value in written:
            with contextlib.suppress(InvalidValueError):
                for item in self.reader.items(value):
                    with contextlib.suppress(InvalidValueError):
                        read = (
                            value if isinstance(value, syntax.Ref) and item == self.reader.dereference(value) else item
                        )
                        if isinstance(known, Registry):
                            yield read, self.reader.table_name(read, known, code)
                        else:
                            yield read, self.reader.word(read, known, what, code)

    def _add_rival(self, word: syntax.Value, name: str, rivals: dict[str, None]) -> None:
        if vocabulary.RIVALS[name]:
            rivals[name] = None
        else:
            report_unsupported(self.reader, word, f"the rival `{name}`")

    def metrics(self) -> tuple[tuple[str, ...], model.MeasurementOptions]:
        """What `report` asks for, and how that is measured."""
        statement = next(iter(syntax.of_type(self.statements, syntax.Report)), None)
        if statement is None:
            return (), model.MeasurementOptions()
        before = len(self.diagnostics)
        found = self._resolve_names(statement.metrics, vocabulary.REPORT_METRICS, "metric", "TD114")
        metrics = tuple(dict.fromkeys(name for _, name in found))
        # A name that could not be read may have meant any metric.
        read = metrics if len(self.diagnostics) == before else vocabulary.METRICS
        readers = vocabulary.REPORT_OPTION_METRICS
        allowed = {n: kind for n, kind in vocabulary.REPORT_OPTIONS.items() if set(readers[n]).intersection(read)}
        options = self.reader.options(statement.options, allowed, f"report {', '.join(metrics)}")
        return metrics, model.MeasurementOptions(**options)

    def stops(self) -> tuple[model.Condition, ...]:
        """When the arms end before their last round."""
        stops = []
        for statement in syntax.of_type(self.statements, syntax.Stop):
            with contextlib.suppress(InvalidValueError):
                stops.append(after_prune.condition(statement.condition, self.reader))
        return tuple(stops)
