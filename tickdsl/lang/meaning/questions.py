"""What a plan asks of its arms: `compare`, `report` and `stop when`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from tickdsl.lang import syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.meaning import tails
from tickdsl.lang.meaning.values import Reader, Unreadable, not_yet
from tickdsl.plan import model
from tickdsl.plugins import Table


def needed(arms: Iterable[model.Arm], names: set[str]) -> set[str]:
    """The arms of these names, and those that they learn from or match, and so on."""
    arms = list(arms)
    found, fresh = set(names), set(names)
    while fresh:
        fresh = {name for arm in arms if arm.name in fresh for name in arm.named} - found
        found |= fresh
    return found


@attrs.frozen
class Questions:
    """The statements of a plan that ask; what is wrong with them joins the `findings`, where `constant` reports."""

    statements: Sequence[syntax.Statement]
    constant: Reader
    findings: list[Diagnostic]

    def compared(
        self, declared: list[str], arms: Sequence[model.Arm]
    ) -> tuple[set[str] | None, tuple[str, ...], dict[str, Any]]:
        """(the arms compared, None for all; the rivals; the options)."""
        statements = syntax.of(self.statements, syntax.Compare)
        named: set[str] = set()
        everything = not statements
        rivals: dict[str, None] = {}
        options: dict[str, Any] = {}
        known = [*declared, *vocabulary.RIVALS, vocabulary.ALL_ARMS]
        for statement in statements:
            before = len(self.findings)
            for word, name in self._words(statement.names, known, "arm or builtin", "TD110"):
                if name == vocabulary.ALL_ARMS:
                    everything = True
                elif name in vocabulary.RIVALS:
                    self._rival(word, name, rivals)
                else:
                    named.add(name)
            # A name that could not be read may have meant any arm.
            everything = everything or len(self.findings) > before
            given = self.constant.options(statement.options, vocabulary.COMPARE_OPTIONS, "compare")
            options.update(given)
        if statements and not declared:
            self.findings.append(
                Diagnostic("TD506", "`compare` needs a pipeline or an arm", statements[0].span, help="add a `prune`")
            )
        compared = None if everything or not named else named
        if compared is not None:
            run = needed(arms, compared)
            for arm in syntax.of(self.statements, syntax.Arm):
                if arm.name.text not in run:
                    all_of_them = ", ".join(n for n in declared if n in compared or n == arm.name.text)
                    self.findings.append(
                        Diagnostic(
                            "TD507",
                            f"arm `{arm.name.text}` is never compared, so it does not run",
                            arm.name.span,
                            help=f"add it: `compare {all_of_them}`",
                        )
                    )
        return compared, tuple(rivals), options

    def _words(
        self, written: Iterable[syntax.Value], known: Iterable[str] | Table[Any], what: str, code: str
    ) -> Iterator[tuple[syntax.Value, str]]:
        """The known ones among names, each with its place; a `$name` may stand for a list of them."""
        known = known if isinstance(known, Table) else list(known)
        for value in written:
            with contextlib.suppress(Unreadable):
                for item in self.constant.items(value):
                    with contextlib.suppress(Unreadable):
                        read = value if isinstance(value, syntax.Ref) and item == self.constant.follow(value) else item
                        if isinstance(known, Table):
                            yield read, self.constant.named(read, known, code)
                        else:
                            yield read, self.constant.word(read, known, what, code)

    def _rival(self, word: syntax.Value, name: str, rivals: dict[str, None]) -> None:
        if vocabulary.RIVALS[name]:
            rivals[name] = None
        else:
            not_yet(self.constant, word, f"the rival `{name}`")

    def metrics(self) -> tuple[tuple[str, ...], model.Measuring]:
        """What `report` asks for, and how that is measured."""
        statement = next(iter(syntax.of(self.statements, syntax.Report)), None)
        if statement is None:
            return (), model.Measuring()
        before = len(self.findings)
        found = self._words(statement.metrics, vocabulary.REPORTED, "metric", "TD114")
        metrics = tuple(dict.fromkeys(name for _, name in found))
        # A name that could not be read may have meant any metric.
        read = metrics if len(self.findings) == before else vocabulary.METRICS
        readers = vocabulary.REPORT_READERS
        allowed = {n: kind for n, kind in vocabulary.REPORT_OPTIONS.items() if set(readers[n]).intersection(read)}
        options = self.constant.options(statement.options, allowed, f"report {', '.join(metrics)}")
        return metrics, model.Measuring(**options)

    def stops(self) -> tuple[model.Condition, ...]:
        """When the arms end before their last round."""
        stops = []
        for statement in syntax.of(self.statements, syntax.Stop):
            with contextlib.suppress(Unreadable):
                stops.append(tails.condition(statement.condition, self.constant))
        return tuple(stops)
